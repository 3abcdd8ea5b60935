import type { ErrorBody } from '@backend.ai/core';
import { z } from 'zod';
import { egressPolicySchema } from './egress.ts';
import { imageSourceSchema } from './image.ts';
import { slotTextsSchema } from './slot-texts.ts';
import { inputLimits, plainText } from './text.ts';

/**
 * Warm slots as managers and agents speak of them: kernels that are started ahead and belong to nobody yet. A session
 * that takes one takes its id: the order to start kernel X hands slot X over to the session, if it is there and suits.
 */

/** How many warm slots one agent may have. */
export const maxWarmSlots = 500;
/** How many kernels may be ordered of one agent at a time, so that it can be told its slots. */
export const maxClaimedSlots = 5_000;

export const warmSlotSpecSchema = z.strictObject({
  /** Of the kernel that it becomes. */
  slotId: z.uuid(),
  image: plainText(inputLimits.image).min(1),
  /** Where to fetch the image; absent: it has to be there. */
  imageSource: imageSourceSchema.optional(),
  slots: slotTextsSchema,
  /** Of /dev/shm, in bytes. Absent: what the backend gives. */
  shmem: z.number().int().min(1).optional(),
  /** False: shares of devices are not scattered over what others left of them. */
  allowFractionalResourceFragmentation: z.boolean().optional(),
  /** What it may call. Absent: everything. */
  egress: egressPolicySchema.optional(),
});
export type WarmSlotSpec = z.infer<typeof warmSlotSpecSchema>;

/** `failed`: it could not be started, or has ended since; the agent forgets it when it is not wished any more. */
export const warmSlotStates = ['starting', 'ready', 'failed'] as const;

export const warmSlotReportSchema = z.object({
  slotId: z.uuid(),
  state: z.enum(warmSlotStates),
  slots: slotTextsSchema,
  image: z.string(),
  /** Why it failed. */
  error: z.custom<ErrorBody>((value) => typeof value === 'object' && value !== null).optional(),
});
export type WarmSlotReport = z.infer<typeof warmSlotReportSchema>;
