import type { ErrorBody, StatusReason } from '@backend.ai/core';
import { z } from 'zod';
import { egressPolicySchema } from './egress.ts';
import { imageSourceSchema } from './image.ts';
import { keptLogSchema } from './log.ts';
import { metricsSchema } from './metric.ts';
import { slotTextsSchema } from './slot-texts.ts';
import { inputLimits, kernelEnvironSchema, plainText } from './text.ts';

/** A kernel is one set of processes (a container, or a sandbox on the process backend) of a session. */

export const kernelIdSchema = z.uuid();

const hostnameSchema = z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/);

/** The session as each of its kernels sees it. */
export const kernelClusterSchema = z.strictObject({
  /** Running number of this kernel among all, from 0. */
  localRank: z.number().int().min(0),
  /** Kernels by role. */
  replicas: z.strictObject({ main: z.number().int().min(1), sub: z.number().int().min(0) }),
  /** All of them in the order of their ranks, this one included. */
  hosts: z
    .array(
      z.strictObject({
        name: hostnameSchema,
        /** Address or name by which the other kernels reach it; absent: on the same machine. */
        address: plainText(inputLimits.address)
          .regex(/^[A-Za-z0-9.:_-]+$/)
          .optional(),
      }),
    )
    .min(1)
    .max(inputLimits.clusterSize),
  /** What engines of several machines call the network of the session; absent: it has none of that kind. */
  network: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/)
    .optional(),
});
export type KernelCluster = z.infer<typeof kernelClusterSchema>;

/** A file that is in the home folder from the beginning. */
export const dotfileSchema = z.strictObject({
  /** Relative to the home folder, or below /home/work. */
  path: plainText(inputLimits.path).min(1),
  /** Octal digits: `644`. */
  mode: z.string().regex(/^0?[0-7]{3}$/),
  content: plainText(inputLimits.dotfile),
});
export type Dotfile = z.infer<typeof dotfileSchema>;

/** What a batch session is for. */
export const kernelBatchSchema = z.strictObject({
  /** For /bin/sh. */
  startupCommand: plainText(inputLimits.command).min(1),
  /** It may run this long, in milliseconds. Absent: without limit. */
  timeoutMs: z.number().int().min(1).optional(),
  /** It waits for `beginBatch`. Absent: it begins as soon as the kernel runs. */
  onOrder: z.literal(true).optional(),
});
export type KernelBatch = z.infer<typeof kernelBatchSchema>;

export const kernelBootstrapSchema = z.strictObject({
  /** For /bin/sh, in the home folder, before the kernel counts as running. At most 16 KiB in UTF-8. */
  script: plainText(inputLimits.bootstrapBytes)
    .min(1)
    .refine(
      (script) => new TextEncoder().encode(script).length <= inputLimits.bootstrapBytes,
      `must have at most ${inputLimits.bootstrapBytes} bytes`,
    ),
  /** Then the start has failed, in milliseconds. Whoever waits for the kernel has to wait longer. */
  timeoutMs: z.number().int().min(1),
});
export type KernelBootstrap = z.infer<typeof kernelBootstrapSchema>;

/** By it the kernels of a session trust one another. */
export const sshKeyPairSchema = z.strictObject({
  /** As in `authorized_keys`. */
  publicKey: plainText(inputLimits.sshKey).min(1),
  /** PEM. */
  privateKey: plainText(inputLimits.sshKey).min(1),
});
export type SshKeyPair = z.infer<typeof sshKeyPairSchema>;

/** The execution in which a batch session runs its startup command; its output is read like that of any other. */
export const batchRunId = 'batch-job';

/**
 * Everything an agent has to know of a kernel. Optional fields stay absent unless they are used: an agent of an earlier
 * version refuses what it does not know, and goes on starting all other kernels.
 */
export const kernelSpecSchema = z.strictObject({
  kernelId: kernelIdSchema,
  sessionId: z.uuid(),
  sessionName: plainText(inputLimits.name),
  accessKey: plainText(inputLimits.name),
  image: plainText(inputLimits.image),
  /** Where to fetch the image; absent: it has to be there. */
  imageSource: imageSourceSchema.optional(),
  clusterRole: z.enum(['main', 'sub']),
  clusterIndex: z.number().int().min(1),
  hostname: plainText(inputLimits.name),
  slots: slotTextsSchema,
  environ: kernelEnvironSchema,
  /** Shared memory, /dev/shm, in bytes; a part of `mem`. Absent: what the backend gives. */
  shmem: z.number().int().min(1).optional(),
  /** Absent: the session is this one kernel. */
  cluster: kernelClusterSchema.optional(),
  /** Of all kernels of the session. */
  sshKeyPair: sshKeyPairSchema.optional(),
  dotfiles: z
    .array(dotfileSchema)
    .max(inputLimits.dotfiles)
    .refine(
      (dotfiles) => dotfiles.reduce((sum, { content }) => sum + content.length, 0) <= inputLimits.dotfilesTotal,
      `must have at most ${inputLimits.dotfilesTotal} characters in all`,
    )
    .optional(),
  /** Ports at which programs of the user will listen. */
  preopenPorts: z.array(z.number().int().min(1).max(65_535)).max(inputLimits.ports).optional(),
  /** False: shares of devices are not scattered over what others left of them. */
  allowFractionalResourceFragmentation: z.boolean().optional(),
  /** What it may call beyond its machine; the same for all kernels of a session. Absent: `open`. */
  egress: egressPolicySchema.optional(),
  bootstrap: kernelBootstrapSchema.optional(),
  /** Run as `batchRunId`; only the main kernel of a batch session has it. */
  batch: kernelBatchSchema.optional(),
  /** Scriptable behaviour of the fake backend; other backends refuse it. */
  fake: z
    .strictObject({
      startDelayMs: z.number().int().min(0).optional(),
      failStep: z.string().optional(),
      exitAfterMs: z.number().int().min(0).optional(),
      exitCode: z.number().int().optional(),
      /** What its batch job takes; the job's exit code is that of `exit N`, and 0 for other commands. */
      batchMs: z.number().int().min(0).optional(),
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
  /** How its batch job ended; absent before that, without one, and from agents of earlier versions. */
  readonly batch?: BatchEnd | undefined;
  /** Its batch job waits for the order to begin. */
  readonly batchWaits?: true | undefined;
  /** Its programs stand still. Absent: they do not, or its agent cannot make them. */
  readonly paused?: boolean | undefined;
  /** Its agent cannot find out what has become of it: the state says no more than that it was there. */
  readonly unknown?: boolean | undefined;
}

export const batchEndSchema = z.object({
  result: z.enum(['success', 'failure']),
  /** -2 when its time was over; null when nobody knows. */
  exitCode: z.number().int().nullable(),
  reason: z.enum(['task-finished', 'task-failed', 'task-timeout']),
  /** It failed, and the disk of its agent was full while it ran. */
  diskFull: z.literal(true).optional(),
});
export type BatchEnd = z.infer<typeof batchEndSchema>;

/** Something that listens, or will listen, in a kernel. */
export const servicePortSchema = z.object({
  name: z.string(),
  protocol: z.enum(['http', 'tcp', 'vnc', 'rdp', 'preopen', 'internal']),
  /** Inside the kernel. */
  ports: z.array(z.number().int()),
});
export type ServicePort = z.infer<typeof servicePortSchema>;

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
  /** Whether kernels with a network of their own may call the machine and the metadata of its cloud. Absent: not known. */
  machine: z.enum(['closed', 'open']).optional(),
  /** Whether it can be kept to an egress policy. Absent: it cannot. */
  egress: z.enum(['enforced', 'open']).optional(),
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
  /** Its image is being fetched; never told of one that is there. */
  z.object({ type: z.literal('kernel-pulling'), ...eventHead }),
  z.object({ type: z.literal('kernel-creating'), ...eventHead }),
  z.object({
    type: z.literal('kernel-started'),
    ...eventHead,
    steps: stepTimingsSchema,
    isolation: isolationReportSchema,
    /** Absent: none. */
    services: z.array(servicePortSchema).optional(),
  }),
  z.object({
    type: z.literal('kernel-start-failed'),
    ...eventHead,
    /** Public form of the failure. */
    error: z.custom<ErrorBody>((value) => typeof value === 'object' && value !== null),
    failedStep: z.string(),
    /** The end of what it wrote, at most `keptLogBytes`; absent when nothing was started. */
    log: z.string().max(keptLogBytes).optional(),
  }),
  /** The job of a batch session is over; its kernel still runs. May come again after a restart of the agent. */
  z.object({ type: z.literal('batch-finished'), ...eventHead, ...batchEndSchema.shape }),
  z.object({
    type: z.literal('kernel-terminated'),
    ...eventHead,
    reason: z.string(),
    exitCode: z.number().int().nullable(),
    /** The end of what it wrote, at most `keptLogBytes`; absent when it never ran. */
    log: z.string().max(keptLogBytes).optional(),
    /** The same in full, for those who still follow it. Absent from agents that keep no more. */
    console: keptLogSchema.optional(),
    /** All that it used; absent when it was not measured. */
    metrics: metricsSchema.optional(),
  }),
]);
export type KernelEvent = z.infer<typeof kernelEventSchema>;
