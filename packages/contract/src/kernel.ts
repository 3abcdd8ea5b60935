import type { ErrorBody, StatusReason } from '@backend.ai/core';
import { z } from 'zod';
import { environSchema, inputLimits, plainText } from './text.ts';

/** A kernel is one set of processes (a container, or a sandbox on the process backend) of a session. */

export const kernelIdSchema = z.uuid();
export const slotTextsSchema = z.record(
  z.string().max(inputLimits.slot),
  z
    .string()
    .max(inputLimits.slot)
    .regex(/^\d+(\.\d{1,6})?$/),
);

export const kernelSpecSchema = z.strictObject({
  kernelId: kernelIdSchema,
  sessionId: z.uuid(),
  sessionName: plainText(inputLimits.name),
  accessKey: plainText(inputLimits.name),
  image: plainText(inputLimits.image),
  clusterRole: z.enum(['main', 'sub']),
  clusterIndex: z.number().int().min(1),
  hostname: plainText(inputLimits.name),
  slots: slotTextsSchema,
  environ: environSchema,
  /** Scriptable behaviour of the fake backend; other backends refuse it. */
  fake: z
    .strictObject({
      startDelayMs: z.number().int().min(0).optional(),
      failStep: z.string().optional(),
      exitAfterMs: z.number().int().min(0).optional(),
      exitCode: z.number().int().optional(),
    })
    .optional(),
});
export type KernelSpec = z.infer<typeof kernelSpecSchema>;

export type AgentKernelState = 'preparing' | 'running' | 'terminating' | 'terminated';

/** What an agent knows of one kernel; the truth that heartbeats carry. */
export interface KernelReport {
  readonly kernelId: string;
  readonly sessionId: string;
  readonly state: AgentKernelState;
  readonly slots: Record<string, string>;
  readonly exitCode: number | null;
  readonly reason: StatusReason | null;
  /** The request that made it. */
  readonly requestId: string;
  /** What the sandbox really gives. */
  readonly isolation: IsolationReport | null;
}

export const isolationReportSchema = z.object({
  /** The means: a container engine, bubblewrap, plain namespaces by unshare, or nothing; `simulated` is the fake backend. */
  sandbox: z.enum(['docker', 'bubblewrap', 'unshare', 'none', 'simulated']),
  /** Whether each kernel has a user id of its own. */
  ownUid: z.boolean(),
  /** How memory is limited: by the kernel's cgroup, or by watching resident memory and killing. */
  memory: z.enum(['cgroup', 'watched', 'none']),
  /** How the number of processes is limited. */
  processes: z.enum(['cgroup', 'rlimit', 'none']),
  cpu: z.enum(['cgroup', 'none']),
  /** `host`: kernels share the machine's network. */
  network: z.enum(['isolated', 'host']),
});
export type IsolationReport = z.infer<typeof isolationReportSchema>;

export interface StepTiming {
  readonly step: string;
  readonly ms: number;
}

const eventHead = {
  /** Grows by one per event of one agent; consumers drop what they have seen. */
  seq: z.number().int().min(1),
  at: z.iso.datetime(),
  /** The request that caused it. */
  requestId: z.string(),
  kernelId: kernelIdSchema,
  sessionId: z.uuid(),
};

const stepTimingsSchema = z.array(z.object({ step: z.string(), ms: z.number() }));

/** Kept of the output of an ended kernel, in bytes. */
export const keptLogBytes = 65_536;

/** What an agent reports through its outbox. Events make the answer quick; heartbeats make it right. */
export const kernelEventSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('kernel-preparing'), ...eventHead }),
  z.object({ type: z.literal('kernel-creating'), ...eventHead }),
  z.object({
    type: z.literal('kernel-started'),
    ...eventHead,
    steps: stepTimingsSchema,
    isolation: isolationReportSchema,
  }),
  z.object({
    type: z.literal('kernel-start-failed'),
    ...eventHead,
    /** Public form of the failure. */
    error: z.custom<ErrorBody>((value) => typeof value === 'object' && value !== null),
    failedStep: z.string(),
  }),
  z.object({
    type: z.literal('kernel-terminated'),
    ...eventHead,
    reason: z.string(),
    exitCode: z.number().int().nullable(),
    /** The end of what it wrote, at most `keptLogBytes`; absent when it never ran. */
    log: z.string().max(keptLogBytes).optional(),
  }),
]);
export type KernelEvent = z.infer<typeof kernelEventSchema>;
