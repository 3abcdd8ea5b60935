import { z } from 'zod';
import type { ServicePort } from './kernel.ts';
import { inputLimits, plainText } from './text.ts';

/** A service is a program of an image that listens on ports of its own, and is started when somebody asks for it. */
export const serviceNameSchema = z.string().regex(/^[a-z0-9][a-z0-9_-]{0,31}$/, 'must be the name of a service');

const wordSchema = plainText(inputLimits.command);

export const startServiceSchema = z.strictObject({
  service: serviceNameSchema,
  /** Variables that the image's definition allows. */
  envs: z.record(plainText(inputLimits.name), wordSchema).default({}),
  /** Arguments that the image's definition allows; null: without a value. */
  arguments: z
    .record(plainText(inputLimits.name), z.union([z.null(), wordSchema, z.array(wordSchema).max(64)]))
    .default({}),
});
export type StartServiceInput = z.infer<typeof startServiceSchema>;

export interface ServiceView extends ServicePort {
  /** As the image tells where users find it, with `{protocol}`, `{host}` and `{port}`. */
  readonly urlTemplate?: string | undefined;
  readonly allowedArguments?: readonly string[] | undefined;
  readonly allowedEnvs?: readonly string[] | undefined;
}

export interface ServiceStart {
  /** `running`: it ran already. `failed`: `error` tells why. */
  readonly status: 'started' | 'running' | 'failed';
  /** Inside the kernel. */
  readonly ports: readonly number[];
  readonly error?: string | undefined;
}
