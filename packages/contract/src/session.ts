import type { SessionResult, SessionStatus, SessionType } from '@backend.ai/core';
import { sessionTypes } from '@backend.ai/core';
import { z } from 'zod';
import type { IsolationReport, StepTiming } from './kernel.ts';
import { environSchema, inputLimits, plainText } from './text.ts';

/** An id or a name among the caller's sessions. */
export const sessionRefSchema = plainText(inputLimits.name).min(1);

export const createSessionSchema = z.strictObject({
  /** 4 to 64 characters; made by the server when absent. */
  name: plainText(128).optional(),
  /** Canonical name or alias: `local/python:3.11`, `python`. */
  image: plainText(inputLimits.image).min(1),
  architecture: plainText(inputLimits.architecture).optional(),
  type: z.enum(sessionTypes).default('interactive'),
  /** `{ cpu: '1', mem: '512m' }`; missing slots take the image's minimum. */
  resources: z
    .record(plainText(inputLimits.slot), z.union([plainText(inputLimits.slot), z.number()]))
    .refine((slots) => Object.keys(slots).length <= inputLimits.slots, `must have at most ${inputLimits.slots} entries`)
    .default({}),
  environ: environSchema.default({}),
  tag: plainText(inputLimits.name).nullish(),
  project: plainText(inputLimits.name).default('default'),
  domain: plainText(inputLimits.name).default('default'),
  resourceGroup: plainText(inputLimits.name).nullish(),
  clusterMode: z.enum(['single-node', 'multi-node']).default('single-node'),
  clusterSize: z.number().int().min(1).default(1),
  /** A live session of this name and image is returned instead of an error. */
  reuseIfExists: z.boolean().default(true),
});
export type CreateSessionInput = z.infer<typeof createSessionSchema>;

/** Why a session is where it is. */
export interface ReasonView {
  readonly code: string;
  readonly message: string;
  readonly data: Record<string, unknown> | null;
}

export interface KernelView {
  readonly id: string;
  readonly role: 'main' | 'sub';
  readonly index: number;
  readonly status: SessionStatus;
  readonly agent: string | null;
  readonly exitCode: number | null;
  readonly isolation: IsolationReport | null;
}

/** Milliseconds from the creation of the session; null when not reached. */
export interface StageTimings {
  readonly scheduledMs: number | null;
  readonly runningMs: number | null;
  readonly endedMs: number | null;
  /** What the agent did between acceptance and the runner's first ping. */
  readonly steps: StepTiming[];
}

export interface SessionView {
  readonly id: string;
  readonly name: string;
  readonly type: SessionType;
  readonly status: SessionStatus;
  readonly reason: ReasonView;
  readonly result: SessionResult;
  readonly image: string;
  readonly architecture: string;
  readonly tag: string | null;
  readonly domain: string;
  readonly project: string;
  readonly resourceGroup: string;
  readonly accessKey: string;
  readonly requested: Record<string, string>;
  readonly kernels: KernelView[];
  readonly createdAt: string;
  readonly statusChangedAt: string;
  readonly startedAt: string | null;
  readonly terminatedAt: string | null;
  readonly timings: StageTimings;
  /** The request that created it. */
  readonly requestId: string;
}

export interface CreateSessionResult {
  readonly session: SessionView;
  /** False when an existing one was returned. */
  readonly created: boolean;
}

export const listSessionsSchema = z.strictObject({
  /** Ended ones too. */
  all: z.boolean().default(false),
  /** Those of everybody whose sessions the caller may see, not only those of the caller's key pair. */
  everyone: z.boolean().optional(),
  limit: z.number().int().min(1).max(1000).default(100),
});

export const waitSessionSchema = z.strictObject({
  session: sessionRefSchema,
  /** `running`: until it runs or has ended; `ended`: until it has ended. */
  until: z.enum(['running', 'ended']),
  /** Answers with the present state after this long, in milliseconds. */
  timeoutMs: z.number().int().min(0).max(60_000).default(30_000),
});

export const destroySessionSchema = z.strictObject({ session: sessionRefSchema, forced: z.boolean().default(false) });

/** One change of state, kept for ever. */
export interface SessionHistoryEntry {
  readonly from: SessionStatus | null;
  readonly to: SessionStatus;
  readonly reason: ReasonView;
  readonly requestId: string;
  readonly at: string;
}
