import type { ErrorBody } from '@backend.ai/core';
import { z } from 'zod';
import { type CallContext, procedureFor, router } from './link.ts';
import { resourceNameSchema } from './resource-policy.ts';
import { inputLimits, plainText } from './text.ts';

/** Warm pools: how many kernels of which image and size a resource group keeps started ahead. */

const amounts = z
  .record(plainText(inputLimits.slot).min(1), z.union([plainText(inputLimits.slot), z.number()]))
  .refine((map) => Object.keys(map).length <= inputLimits.slots, `must have at most ${inputLimits.slots} entries`);
/** Slots that there are to be, on all agents of the group together. */
const size = z.number().int().min(0).max(500);

export const createWarmPoolSchema = z
  .strictObject({
    name: resourceNameSchema,
    resourceGroup: resourceNameSchema.default('default'),
    /** As users name it; kept under its canonical name. */
    image: plainText(inputLimits.image).min(1),
    architecture: plainText(inputLimits.architecture).min(1).optional(),
    /** What each slot holds. Amounts that are absent are the least that the image wants. */
    resources: amounts.optional(),
    /** Name of a resource preset, of the group or of all, whose amounts are taken now. */
    preset: resourceNameSchema.optional(),
    size,
  })
  .refine(({ resources, preset }) => resources === undefined || preset === undefined, {
    message: 'goes not together with resources',
    path: ['preset'],
  });
export const warmPoolRefSchema = z.strictObject({ name: resourceNameSchema });
export const modifyWarmPoolSchema = warmPoolRefSchema.extend({ size });
export type CreateWarmPoolInput = z.infer<typeof createWarmPoolSchema>;
export type ModifyWarmPoolInput = z.infer<typeof modifyWarmPoolSchema>;

export interface WarmPoolView {
  readonly name: string;
  readonly resourceGroup: string;
  readonly image: string;
  readonly architecture: string;
  readonly resources: Record<string, string>;
  /** Slots that there are to be. */
  readonly size: number;
  /** Slots that a session can take now. */
  readonly ready: number;
  /** Slots that are being started. */
  readonly starting: number;
  /** Agents with slots of it, and how many. */
  readonly agents: Record<string, number>;
  /** Slots that failed one after the other, on the agent on which most did. */
  readonly failures: number;
  /** When the first agent is tried again on which slots failed. */
  readonly retryAt: string | null;
  /** Of the slot that failed last. */
  readonly lastError: ErrorBody | null;
  /** Each agent on which slots failed, the latest failure first. */
  readonly failing: readonly WarmPoolFailure[];
  /** Why there are fewer slots than there are to be. Empty: there are as many, or the others are about to be started. */
  readonly shortage: readonly WarmPoolShortage[];
}

export interface WarmPoolFailure {
  readonly agent: string;
  readonly failures: number;
  /** Before that none is started there. */
  readonly retryAt: string;
  readonly error: ErrorBody | null;
}

/** What keeps agents of the group from starting a slot, or another one. */
export const warmPoolShortages = [
  /** The group has no agents at all. */
  'no-agents',
  /** Not alive, or not open to new sessions. */
  'closed',
  'other-architecture',
  /** They run processes, and only containers are started ahead. */
  'keeps-no-slots',
  /** The group restricts what kernels may call, which they cannot enforce. */
  'egress-policy',
  /** They do not have the image, and no registry does that they could fetch it from. */
  'image-missing',
  /** Slots failed there, and their time to be tried again has not come. */
  'failing',
  'no-room',
  /** They have as many slots as one agent may. */
  'too-many-slots',
  /** They start as many slots as one agent does at a time. */
  'starting-others',
] as const;

export interface WarmPoolShortage {
  readonly code: (typeof warmPoolShortages)[number];
  /** Ids. */
  readonly agents: readonly string[];
}

export interface WarmPoolApi {
  list(ctx: CallContext): Promise<WarmPoolView[]>;
  /** @throws AppError `object-exists`, `object-not-found` for a group or preset, `unknown-image`, `invalid-input` */
  create(input: CreateWarmPoolInput, ctx: CallContext): Promise<WarmPoolView>;
  /** @throws AppError `object-not-found` */
  modify(input: ModifyWarmPoolInput, ctx: CallContext): Promise<WarmPoolView>;
  /** Its slots go with it, sessions that took one stay. @throws AppError `object-not-found` */
  delete(input: { name: string }, ctx: CallContext): Promise<void>;
}

export function createWarmPoolRouter(pools: WarmPoolApi) {
  const modify = procedureFor('warm-pool:modify');
  return router({
    list: procedureFor('warm-pool:read').query(({ ctx }) => pools.list(ctx)),
    create: modify.input(createWarmPoolSchema).mutation(({ input, ctx }) => pools.create(input, ctx)),
    modify: modify.input(modifyWarmPoolSchema).mutation(({ input, ctx }) => pools.modify(input, ctx)),
    delete: modify.input(warmPoolRefSchema).mutation(({ input, ctx }) => pools.delete(input, ctx)),
  });
}
