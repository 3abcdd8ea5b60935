import { z } from 'zod';
import { type FileListing, homePathSchema, type TransferTicket, transferSchema } from './files.ts';
import {
  type AgentImageState,
  type ImageSource,
  imageSourceSchema,
  type KernelCommit,
  type KernelCommitState,
  kernelCommitSchema,
} from './image.ts';
import { type KernelReport, type KernelSpec, kernelIdSchema, kernelSpecSchema } from './kernel.ts';
import { type CallContext, procedureFor, router } from './link.ts';
import { type LogChunk, logCursorSchema } from './log.ts';
import {
  type CompleteInput,
  type CompleteResult,
  completeInputSchema,
  type ExecuteInput,
  executeInputSchema,
  type RunResult,
  runIdSchema,
} from './run.ts';
import {
  type ServiceStart,
  type ServiceView,
  type StartServiceInput,
  serviceNameSchema,
  startServiceSchema,
} from './service.ts';
import { inputLimits, plainText } from './text.ts';
import { maxClaimedSlots, maxWarmSlots, type WarmSlotReport, warmSlotSpecSchema } from './warm-slot.ts';

/** manager → agent. The real agent and the simulated one implement this. */

const kernelInput = z.strictObject({ kernelId: kernelIdSchema });
const sessionInput = z.strictObject({ sessionId: z.uuid() });
const destroyInput = z.strictObject({
  kernelId: kernelIdSchema,
  reason: z.string().max(64),
  /** Skip the friendly signal. */
  forced: z.boolean().default(false),
});
const logsInput = z.strictObject({
  kernelId: kernelIdSchema,
  maxBytes: z
    .number()
    .int()
    .min(1)
    .max(8 * 1024 * 1024)
    .default(1024 * 1024),
});
const interruptInput = kernelInput.extend({ runId: runIdSchema.optional() });
const startServiceInput = startServiceSchema.extend({ kernelId: kernelIdSchema });
const stopServiceInput = kernelInput.extend({ service: serviceNameSchema });
const readLogInput = z.strictObject({
  kernelId: kernelIdSchema,
  /** Null: from the beginning of what is kept. */
  cursor: logCursorSchema.nullable(),
  /** Without a cursor: so many of the last lines, and what follows them. */
  tailLines: z.number().int().min(0).max(1_000_000).nullish(),
  maxBytes: z
    .number()
    .int()
    .min(16)
    .max(1024 * 1024)
    .default(64 * 1024),
  /** Waits this long for something new, in milliseconds. */
  holdMs: z.number().int().min(0).max(20_000).default(10_000),
});
const executeKernelInput = executeInputSchema.extend({ kernelId: kernelIdSchema });
const completeKernelInput = completeInputSchema.extend({ kernelId: kernelIdSchema });
const imageName = plainText(inputLimits.image).min(1);
const imageInput = z.strictObject({ image: imageName });
const pullInput = z.strictObject({ image: imageName, source: imageSourceSchema });
const purgeInput = z.strictObject({
  image: imageName,
  /** Also when stopped containers were made of it. One that runs keeps its image always. */
  forced: z.boolean().default(false),
});
const commitInput = kernelCommitSchema.extend({ kernelId: kernelIdSchema });
const warmSlotsInput = z.strictObject({
  slots: z.array(warmSlotSpecSchema).max(maxWarmSlots),
  /** Kernels whose order is under way: a slot of such an id is somebody's already, and stays until that order comes. */
  claimed: z.array(kernelIdSchema).max(maxClaimedSlots).optional(),
});
const listFilesInput = z.strictObject({ kernelId: kernelIdSchema, path: homePathSchema.default('.') });
const transferInput = z.strictObject({ kernelId: kernelIdSchema, transfer: transferSchema });

export type WarmSlotsInput = z.infer<typeof warmSlotsInput>;

export interface AgentSummary {
  readonly agentId: string;
  readonly bootId: string;
  readonly version: string;
  readonly kernels: KernelReport[];
}

export interface AgentService {
  /**
   * Accepts the kernel and starts it in the background; the outcome arrives as events. Idempotent by kernel id.
   * @throws AppError `stale-epoch`, `insufficient-capacity`, `unknown-image`, `isolation-unavailable`
   */
  createKernel(spec: KernelSpec, ctx: CallContext): Promise<{ accepted: true }>;
  /** Ends the kernel in the background. Unknown kernels count as ended: a `kernel-terminated` event is reported. */
  destroyKernel(input: z.infer<typeof destroyInput>, ctx: CallContext): Promise<{ accepted: true }>;
  /**
   * Begins the batch job of a kernel that runs, if it waits for that. Idempotent; there from RPC version 4 on.
   * @throws AppError `kernel-not-found`
   */
  beginBatch(input: { kernelId: string }, ctx: CallContext): Promise<{ accepted: true }>;
  /** @throws AppError `kernel-not-found` */
  checkKernel(input: { kernelId: string }, ctx: CallContext): Promise<KernelReport>;
  /** Starts or follows a run; see `ExecuteInput`. @throws AppError `kernel-not-found`, `run-not-found` */
  execute(input: ExecuteInput & { kernelId: string }, ctx: CallContext): Promise<RunResult>;
  /** The current run, or a certain one. */
  interrupt(input: z.infer<typeof interruptInput>, ctx: CallContext): Promise<void>;
  complete(input: CompleteInput & { kernelId: string }, ctx: CallContext): Promise<CompleteResult>;
  /** The newest output of the kernel, oldest first. */
  logs(input: z.infer<typeof logsInput>, ctx: CallContext): Promise<{ logs: string }>;
  /**
   * What it wrote after a place in its output; waits for more. Also of a kernel that ended lately.
   * @throws AppError `kernel-not-found`
   */
  readLog(input: z.infer<typeof readLogInput>, ctx: CallContext): Promise<LogChunk>;
  /** @throws AppError `invalid-path`, `file-not-found` */
  listFiles(input: z.infer<typeof listFilesInput>, ctx: CallContext): Promise<FileListing>;
  /** A single-use ticket for the data port. @throws AppError `invalid-path`, `file-not-found` */
  openTransfer(input: z.infer<typeof transferInput>, ctx: CallContext): Promise<TransferTicket>;
  /** What the kernel's image offers, and the ports that were announced for programs of the user. */
  services(input: { kernelId: string }, ctx: CallContext): Promise<ServiceView[]>;
  /**
   * Makes sure that a service listens; its own failure is an answer.
   * @throws AppError `object-not-found`, `invalid-input` for what the image's definition does not allow
   */
  startService(input: StartServiceInput & { kernelId: string }, ctx: CallContext): Promise<ServiceStart>;
  stopService(input: z.infer<typeof stopServiceInput>, ctx: CallContext): Promise<void>;
  /**
   * Makes all programs of the kernel stand still; they keep what they hold. One that does already is as good.
   * @throws AppError `kernel-not-found`, `unsupported-feature` where nothing can hold them
   */
  pauseKernel(input: { kernelId: string }, ctx: CallContext): Promise<void>;
  /** Lets them go on. @throws AppError `kernel-not-found` */
  resumeKernel(input: { kernelId: string }, ctx: CallContext): Promise<void>;
  /**
   * Makes an image of the kernel's files in the background; `checkCommit` tells how that goes. Asking again for the same
   * image while it is being made changes nothing.
   * @throws AppError `unsupported-feature` for a kernel that is no container, `object-exists` for a name that is taken,
   * `state-conflict` while another one is being made of the kernel
   */
  commitKernel(input: KernelCommit & { kernelId: string }, ctx: CallContext): Promise<{ accepted: true }>;
  checkCommit(input: { kernelId: string }, ctx: CallContext): Promise<KernelCommitState>;
  status(ctx: CallContext): Promise<AgentSummary>;
  /** @throws AppError `unsupported-feature` by agents without a container engine, as the two below */
  checkImage(input: { image: string }, ctx: CallContext): Promise<AgentImageState>;
  /** Fetches an image in the background, if its policy has it; `checkImage` tells how that goes. Idempotent. */
  pullImage(input: { image: string; source: ImageSource }, ctx: CallContext): Promise<{ accepted: true }>;
  /** Removes the name, and the image with its last name; false: it was not there. @throws AppError `image-in-use` */
  purgeImage(input: z.infer<typeof purgeInput>, ctx: CallContext): Promise<{ removed: boolean }>;
  /**
   * All warm slots that it is to have from now on: starts those that it lacks and removes all others that nobody has
   * claimed, in the background.
   * Answers those that it has. @throws AppError `stale-epoch`, `unsupported-feature`
   */
  keepWarmSlots(input: WarmSlotsInput, ctx: CallContext): Promise<{ slots: WarmSlotReport[] }>;
  /**
   * Makes the network by which containers of a session on several machines reach each other, unless there is one. Answers
   * its name. For agents whose engine manages a swarm.
   * @throws AppError `unsupported-feature`, `stale-epoch`, `insufficient-capacity` when no address range is left
   */
  ensureClusterNetwork(input: { sessionId: string }, ctx: CallContext): Promise<{ network: string }>;
  /** Nothing happens when there is none. @throws AppError as above; `engine-failed` while containers use it */
  removeClusterNetwork(input: { sessionId: string }, ctx: CallContext): Promise<void>;
}

/** The agent's longest own wait is `holdMs`; the caller's deadline lies above it. */
const executeDeadlineMs = 45_000;
/** Above the time that a service has to listen. */
const startServiceDeadlineMs = 40_000;
/** Large images have many files. */
const purgeDeadlineMs = 60_000;
/** The nodes of a swarm agree upon it. */
const clusterNetworkDeadlineMs = 30_000;

export function createAgentRouter(service: AgentService) {
  const query = procedureFor('peer', { deadlineMs: 5_000 });
  const idempotent = procedureFor('peer', { idempotent: true, deadlineMs: 10_000 });
  const ofSwarm = procedureFor('peer', { idempotent: true, deadlineMs: clusterNetworkDeadlineMs }).input(sessionInput);
  return router({
    createKernel: idempotent.input(kernelSpecSchema).mutation(({ input, ctx }) => service.createKernel(input, ctx)),
    destroyKernel: idempotent.input(destroyInput).mutation(({ input, ctx }) => service.destroyKernel(input, ctx)),
    beginBatch: idempotent.input(kernelInput).mutation(({ input, ctx }) => service.beginBatch(input, ctx)),
    checkKernel: query.input(kernelInput).query(({ input, ctx }) => service.checkKernel(input, ctx)),
    execute: procedureFor('peer', { deadlineMs: executeDeadlineMs })
      .input(executeKernelInput)
      .mutation(({ input, ctx }) => service.execute(input, ctx)),
    interrupt: idempotent.input(interruptInput).mutation(({ input, ctx }) => service.interrupt(input, ctx)),
    complete: query.input(completeKernelInput).query(({ input, ctx }) => service.complete(input, ctx)),
    logs: query.input(logsInput).query(({ input, ctx }) => service.logs(input, ctx)),
    readLog: procedureFor('peer', { deadlineMs: executeDeadlineMs })
      .input(readLogInput)
      .query(({ input, ctx }) => service.readLog(input, ctx)),
    listFiles: query.input(listFilesInput).query(({ input, ctx }) => service.listFiles(input, ctx)),
    openTransfer: idempotent.input(transferInput).mutation(({ input, ctx }) => service.openTransfer(input, ctx)),
    services: query.input(kernelInput).query(({ input, ctx }) => service.services(input, ctx)),
    startService: procedureFor('peer', { idempotent: true, deadlineMs: startServiceDeadlineMs })
      .input(startServiceInput)
      .mutation(({ input, ctx }) => service.startService(input, ctx)),
    stopService: idempotent.input(stopServiceInput).mutation(({ input, ctx }) => service.stopService(input, ctx)),
    pauseKernel: idempotent.input(kernelInput).mutation(({ input, ctx }) => service.pauseKernel(input, ctx)),
    resumeKernel: idempotent.input(kernelInput).mutation(({ input, ctx }) => service.resumeKernel(input, ctx)),
    commitKernel: idempotent.input(commitInput).mutation(({ input, ctx }) => service.commitKernel(input, ctx)),
    checkCommit: query.input(kernelInput).query(({ input, ctx }) => service.checkCommit(input, ctx)),
    status: query.query(({ ctx }) => service.status(ctx)),
    checkImage: query.input(imageInput).query(({ input, ctx }) => service.checkImage(input, ctx)),
    pullImage: idempotent.input(pullInput).mutation(({ input, ctx }) => service.pullImage(input, ctx)),
    purgeImage: procedureFor('peer', { idempotent: true, deadlineMs: purgeDeadlineMs })
      .input(purgeInput)
      .mutation(({ input, ctx }) => service.purgeImage(input, ctx)),
    keepWarmSlots: idempotent.input(warmSlotsInput).mutation(({ input, ctx }) => service.keepWarmSlots(input, ctx)),
    ensureClusterNetwork: ofSwarm.mutation(({ input, ctx }) => service.ensureClusterNetwork(input, ctx)),
    removeClusterNetwork: ofSwarm.mutation(({ input, ctx }) => service.removeClusterNetwork(input, ctx)),
  });
}

export type AgentRouter = ReturnType<typeof createAgentRouter>;
