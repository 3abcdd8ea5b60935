import type { FailurePolicy, SessionResult, SessionStatus, SessionType } from '@backend.ai/core';
import { failurePolicies, sessionTypes } from '@backend.ai/core';
import { z } from 'zod';
import type { PullProgress } from './image.ts';
import type { IsolationReport, StepTiming } from './kernel.ts';
import { momentSchema } from './moment.ts';
import { environSchema, inputLimits, plainText } from './text.ts';

/** An id or a name among the caller's sessions. */
export const sessionRefSchema = plainText(inputLimits.name).min(1);

/** Largest of what one request may ask for. */
export const sessionLimits = {
  kernels: 64,
  dependencies: 32,
  preopenPorts: 32,
  /** Bytes of a bootstrap script. */
  bootstrapScript: 16 * 1024,
  /** Of a priority; the least is 0. */
  priority: 100,
} as const;

/** An address that answers by HTTP, without credentials in it. */
const webAddressSchema = plainText(2_048).refine((text) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  return url !== undefined && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '';
}, 'must be an http or https URL without credentials');

export const bootstrapScriptSchema = plainText(sessionLimits.bootstrapScript).refine(
  (text) => new TextEncoder().encode(text).length <= sessionLimits.bootstrapScript,
  `must have at most ${sessionLimits.bootstrapScript} bytes`,
);

const inRange = `must be a whole number from 0 to ${sessionLimits.priority}`;
const prioritySchema = z.number(inRange).int(inRange).min(0, inRange).max(sessionLimits.priority, inRange);

const portSchema = z.number().int().min(1024).max(65_535);

function listOf<T extends z.ZodType>(item: T, maxLength: number) {
  return z
    .array(item)
    .max(maxLength)
    .refine((list) => new Set(list).size === list.length, 'must not name anything twice');
}

const sessionRequestSchema = z.strictObject({
  /** 4 to 64 characters; made by the server when absent. */
  name: plainText(128).optional(),
  /** Canonical name or alias: `local/python:3.11`, `python`. */
  image: plainText(inputLimits.image).min(1),
  architecture: plainText(inputLimits.architecture).optional(),
  /** `batch` runs `startupCommand` and ends with its result. `system` sessions are made by superadmins. */
  type: z.enum(sessionTypes).default('interactive'),
  /** `{ cpu: '1', mem: '512m' }`, for each kernel; missing slots take the image's minimum. */
  resources: z
    .record(plainText(inputLimits.slot), z.union([plainText(inputLimits.slot), z.number()]))
    .refine((slots) => Object.keys(slots).length <= inputLimits.slots, `must have at most ${inputLimits.slots} entries`)
    .default({}),
  environ: environSchema.default({}),
  tag: plainText(inputLimits.name).nullish(),
  /** Absent: the caller's only project of the domain, or the one called `default`. */
  project: plainText(inputLimits.name).optional(),
  /** Absent: the caller's. */
  domain: plainText(inputLimits.name).optional(),
  resourceGroup: plainText(inputLimits.name).nullish(),
  clusterMode: z.enum(['single-node', 'multi-node']).default('single-node'),
  /** Number of kernels: one main, the others sub. */
  clusterSize: z.number().int().min(1).max(sessionLimits.kernels).default(1),
  /** A live session of this name and image is returned instead of an error. */
  reuseIfExists: z.boolean().default(true),
  /** Higher is considered first. */
  priority: prioritySchema.default(10),
  /** Compared between a session that waits and those that could make room for it: less gives way. */
  jobPriority: prioritySchema.default(0),
  /** Whether it may have to make room for others. */
  isPreemptible: z.boolean().default(true),
  /** `tolerant`: it goes on, RUNNING_DEGRADED, when a sub kernel ends; otherwise it ends with any of its kernels. */
  failurePolicy: z.enum(failurePolicies).optional(),
  /** Sessions of the same owner that have to end with success first, by id or name. */
  dependencies: listOf(sessionRefSchema, sessionLimits.dependencies).default([]),
  /** What a batch session runs, by a shell. */
  startupCommand: plainText(inputLimits.command).min(1).nullish(),
  /** A batch session is not started before this moment. */
  startsAt: momentSchema.nullish(),
  /** How long a batch session may run, in milliseconds; without limit when absent. */
  timeoutMs: z.number().int().min(1_000).max(31_536_000_000).nullish(),
  /** A shell script that runs in each kernel before anything else. */
  bootstrapScript: bootstrapScriptSchema.nullish(),
  /** Is sent a POST at each change of state. */
  callbackUrl: webAddressSchema.nullish(),
  /** Ports that programs of the session will listen on. */
  preopenPorts: listOf(portSchema, sessionLimits.preopenPorts).default([]),
  resourceOpts: z.strictObject({ shmem: plainText(inputLimits.slot).nullish() }).default({}),
  /** Ids of the agents to be on, by superadmins only: one for each kernel when over several nodes, else one. */
  designatedAgents: listOf(plainText(inputLimits.name).min(1), sessionLimits.kernels).default([]),
});

/** Fields that do not go together are named as those that are wrong by themselves. */
export const createSessionSchema = sessionRequestSchema.superRefine((input, context) => {
  const problem = (name: keyof typeof input, message: string): void =>
    context.addIssue({ code: 'custom', path: [name], message });
  if (input.type === 'batch') {
    if (!input.startupCommand) problem('startupCommand', 'is required for batch sessions');
  } else {
    for (const name of ['startupCommand', 'startsAt', 'timeoutMs'] as const)
      if (input[name]) problem(name, 'is for batch sessions only');
  }
  if (input.designatedAgents.length === 0) return;
  const wanted = input.clusterMode === 'multi-node' ? input.clusterSize : 1;
  if (input.designatedAgents.length !== wanted) {
    const each = wanted === 1 ? 'one agent for a session on a single node' : `${wanted} agents, one for each kernel`;
    problem('designatedAgents', `must name ${each}`);
  }
});
export type CreateSessionInput = z.infer<typeof createSessionSchema>;
/** As it is asked for: what is absent has a default. */
export type CreateSessionRequest = z.input<typeof createSessionSchema>;

/** What was asked for and is not otherwise in a `SessionView`. */
export interface SessionOptionsView {
  readonly clusterMode: CreateSessionInput['clusterMode'];
  readonly clusterSize: number;
  readonly priority: number;
  readonly jobPriority: number;
  readonly isPreemptible: boolean;
  readonly failurePolicy: FailurePolicy;
  readonly startsAt: string | null;
  readonly timeoutMs: number | null;
  readonly callbackUrl: string | null;
  readonly preopenPorts: number[];
  /** Shared memory in bytes, a part of the memory; null: none was asked for. */
  readonly shmem: string | null;
  readonly designatedAgents: string[];
}

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
  /** How far the fetch of its image is, for who waits for the session or watches it; null: it fetches none, or not known. */
  readonly pull: PullProgress | null;
  readonly result: SessionResult;
  readonly image: string;
  readonly architecture: string;
  readonly tag: string | null;
  readonly domain: string;
  readonly project: string;
  readonly projectId: string;
  readonly resourceGroup: string;
  readonly userId: string;
  readonly accessKey: string;
  readonly options: SessionOptionsView;
  /** Of all kernels together. */
  readonly requested: Record<string, string>;
  readonly kernels: KernelView[];
  readonly createdAt: string;
  readonly statusChangedAt: string;
  /** Since when its programs stand still, as it is wished; null: they run. */
  readonly pausedAt: string | null;
  readonly startedAt: string | null;
  readonly terminatedAt: string | null;
  readonly timings: StageTimings;
  /** The request that created it. */
  readonly requestId: string;
}

/** With what may be long, for who looks at one session. */
export interface SessionDetailsView extends SessionView {
  readonly environ: Record<string, string>;
  readonly startupCommand: string | null;
  readonly bootstrapScript: string | null;
  /** Ids of the sessions that had to end with success first. */
  readonly dependencies: string[];
}

export interface DestroySessionResult extends SessionView {
  /** That depended on it and were ended with it; empty unless `recursive`. */
  readonly dependents: SessionView[];
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

export const destroySessionSchema = z.strictObject({
  session: sessionRefSchema,
  forced: z.boolean().default(false),
  /** Ends those, too, that depend on it, on those, and so on. */
  recursive: z.boolean().optional(),
});

export const renameSessionSchema = z.strictObject({
  session: sessionRefSchema,
  /** 4 to 64 characters; no other live session of its key pair has it. */
  name: plainText(128),
});

export const commitSessionSchema = z.strictObject({
  session: sessionRefSchema,
  /** What its owner calls it: `my-tools` or `my-tools:1`. */
  image: plainText(128).min(1),
});

/** An image that is being made of a session. */
export interface CommitStarted {
  readonly taskId: string;
  /** Canonical name that it will have. */
  readonly image: string;
}

/** The result of a task of kind `commit`. */
export interface CommittedImage {
  readonly image: string;
  readonly architecture: string;
  /** That has it. */
  readonly agent: string;
}

/** Whether an image is being made of a session now. */
export interface SessionCommitState {
  readonly state: 'ready' | 'ongoing';
  /** Of which kernel. */
  readonly kernelId: string;
}

/** One change of state, kept for ever. */
export interface SessionHistoryEntry {
  readonly from: SessionStatus | null;
  readonly to: SessionStatus;
  readonly reason: ReasonView;
  readonly requestId: string;
  readonly at: string;
}
