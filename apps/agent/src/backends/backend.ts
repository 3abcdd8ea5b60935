import type { Duplex } from 'node:stream';
import type {
  AgentImageState,
  BatchEnd,
  CompleteInput,
  CompleteResult,
  ExecuteInput,
  Image,
  ImageSource,
  IsolationReport,
  KernelBatch,
  KernelCommit,
  KernelSpec,
  RunResult,
  ServicePort,
  SwarmNode,
  TerminalOptions,
  WarmSlotSpec,
} from '@backend.ai/contract';
import type { AppError, StatusReason, Turns } from '@backend.ai/core';
import type { DeviceContribution } from '../accelerators/accelerator-plugin.ts';
import type { ConsoleLog } from '../files/console-log.ts';
import type { HomeFiles } from '../files/home-files.ts';
import type { Allocation, Inventory } from '../resources/inventory.ts';
import type { KernelResources } from '../resources/kernel-resources.ts';
import type { KernelServices } from '../services/kernel-services.ts';

/**
 * What makes kernels. A backend returns or throws; it reports nothing and writes no events: the supervisor does.
 *
 * Creating a kernel is an ordered list of named steps. Ending one is the same list undone in reverse, so that whatever
 * a step makes has exactly one place that removes it.
 */
export interface Backend {
  readonly kind: 'process' | 'docker' | 'fake';
  /** Valid after `start`. During an outage they are what was known before. */
  readonly capabilities: BackendCapabilities;
  /** What keeps it from making kernels now and passes by itself; undefined: nothing. */
  readonly outage?: AppError | undefined;
  /** Finds out what the machine offers; an outage does not keep it from that. @throws AppError `isolation-unavailable` */
  start(): Promise<void>;
  /**
   * Kernels of an earlier life of this agent: those that still run and those that died meanwhile.
   * @throws AppError `engine-unavailable` in an outage: nobody can tell, and nothing has happened
   */
  recover(): Promise<RecoveredKernel[]>;
  /** The same and warm slots, as far as the agent has written it down. Absent: it has no outages. */
  remembered?(): RememberedKernel[];
  /** What bears our mark and belongs to no known kernel, in the order in which it has to go. */
  strays(isKnown: (kernelId: string) => boolean): Promise<Stray[]>;
  /** Removes what was kept for a while, and nobody came for. @throws when something cannot be removed now */
  expire(): Promise<void>;
  /** Absent: it hands out whatever plugins say. @throws AppError `unsupported-feature` for devices that kernels would not see */
  checkDevices?(devices: DeviceContribution): void;
  /** @throws AppError `unknown-image`, `unsupported-feature` */
  plan(spec: KernelSpec, requestId: string, resources: KernelResources): KernelPlan;
  /** Absent: it starts no kernels ahead. */
  readonly warmSlots?: BackendWarmSlots | undefined;
  /** Absent: kernels are not made of container images. */
  readonly images?: BackendImages | undefined;
  /** Absent: it makes no networks over several machines. */
  readonly clusterNetworks?: BackendClusterNetworks | undefined;
  /** Lets go of everything; kernels go on. */
  close(): Promise<void>;
}

/** Kernels that are started ahead of the sessions that take them. */
export interface BackendWarmSlots {
  /** Those of an earlier life of this agent that nobody had taken. After the `recover` of kernels. */
  recover(): Promise<RecoveredSlot[]>;
  /** @throws AppError `unknown-image`, `unsupported-feature` */
  plan(slot: WarmSlotSpec, requestId: string, resources: KernelResources): SlotPlan;
}

/** How to make a slot and how to remove it. */
export interface SlotPlan extends KernelPlan {
  readonly resources: KernelResources;
  /**
   * How the slot, all of whose steps have run, becomes the kernel of an order: those steps, marked as made, and what is
   * left to do. From the first of these on an agent that is started again never takes it for a slot any more. Undefined: it
   * does not suit.
   */
  claim(spec: KernelSpec, requestId: string): KernelPlan | undefined;
}

export interface RecoveredSlot {
  readonly spec: WarmSlotSpec;
  readonly requestId: string;
  /** What it had been given; null: nobody wrote it down. */
  readonly allocation: Allocation | null;
  readonly plan: SlotPlan;
  /** False: it ended, or never came so far. */
  readonly isReady: boolean;
}

/** Container images of a backend. What is there without fetching is told by its capabilities. */
export interface BackendImages {
  state(name: string): Promise<AgentImageState>;
  /** Fetches in the background; `state` tells how that goes. */
  preload(wanted: { readonly name: string; readonly source: ImageSource }): void;
  /** False: it was not there. @throws AppError `image-in-use` */
  purge(name: string, forced: boolean): Promise<boolean>;
}

/** Networks of sessions over several machines. */
export interface BackendClusterNetworks {
  /**
   * Unless there is one; answers its name.
   * @throws AppError `insufficient-capacity`, `engine-failed`, `cancelled` by a removal
   */
  ensure(sessionId: string): Promise<string>;
  /** Nothing happens when there is none. @throws AppError `engine-failed` while it is in use */
  remove(sessionId: string): Promise<void>;
}

/** Something of ours that no kernel has. */
export interface Stray {
  /** What it is, for people: `container kernel.python.…`. */
  readonly name: string;
  /** Of the kernel it was made for; null: of none in particular. */
  readonly kernelId: string | null;
  /** When it was made, in milliseconds since the epoch; null where nobody can be making it now. */
  readonly since: number | null;
  /** Nothing happens when it is gone already. @throws when it cannot be removed now */
  remove(): Promise<void>;
}

export interface BackendCapabilities {
  readonly isolation: IsolationReport;
  /** Replaced as a whole when it changes. */
  readonly images: readonly Image[];
  /** What kernels can be given, besides accelerators. */
  readonly inventory: Inventory;
  /** Whether kernels outlive the agent process. */
  readonly adoption: boolean;
  /** What its engine belongs to; another object whenever that has changed. */
  readonly swarm?: SwarmNode | undefined;
  /** Why its engine hands out no devices that a container requests; null: it does, or there is none. */
  readonly deviceRefusal?: string | null | undefined;
}

/** What a step tells of itself before it ends: the image has to be fetched, which takes a while. */
export type StepNews = 'pulling';

/** One step of creating a kernel. */
export interface CreateStep {
  readonly name: string;
  /** It has run already, and is only to be undone. */
  readonly made?: true;
  /** Of which it needs one; steps after one another that need the same share it. */
  readonly turns?: Turns;
  /** Stops early, by throwing, when the signal aborts. */
  run(signal: AbortSignal, tell: (news: StepNews) => void): Promise<void> | void;
  /**
   * Removes what `run` made, also after a `run` that failed half-way, and a second time. One that throws is tried again
   * later; the steps before it wait, as what they made may still be in use.
   */
  undo(): Promise<void> | void;
}

/** A kernel to be, or that was: how to make it and how to remove it. */
export interface KernelPlan {
  readonly steps: readonly CreateStep[];
  /** The first step that starts something; what comes before only prepares. */
  readonly launchStep: string;
  /** Valid when all steps have run. */
  readonly handle: () => KernelHandle;
  /** Whatever a start that failed has started: it may have written something. */
  readonly launched: () => Pick<KernelHandle, 'logs'> | null;
}

export interface KernelEnd {
  readonly exitCode: number | null;
  readonly reason: StatusReason;
}

/** Null, or absent: this cannot be measured. */
export interface KernelUsage {
  /** CPU time since it started, in milliseconds. */
  readonly cpuMs: number | null;
  /** Memory it holds, without what can be read again from files. */
  readonly memoryBytes: number | null;
  /** From and to disks since it started. */
  readonly readBytes?: number | null;
  readonly writtenBytes?: number | null;
  /** Through a network of its own since it started. */
  readonly receivedBytes?: number | null;
  readonly sentBytes?: number | null;
  /** Of its files; may be minutes old. */
  readonly scratchBytes?: number | null;
}

/** A running kernel. */
export interface KernelHandle {
  readonly isolation: IsolationReport;
  /** Resolves once, when it has ended, by itself or not. Its remains may wait for the undoing of its steps. */
  readonly ended: Promise<KernelEnd>;
  /** Null: a kernel without files. */
  readonly files: HomeFiles | null;
  /** The folder on this machine in which its files are; absent: it has none, or what they take is not measured. */
  readonly scratch?: string;
  execute(input: ExecuteInput, signal: AbortSignal | undefined): Promise<RunResult>;
  /**
   * Runs the job as `batchRunId`, or follows one that an earlier life of the agent began, to its end. The job does not
   * depend on whoever waits here. Null: the kernel ended before, or the signal aborted.
   */
  runBatch(batch: KernelBatch, signal: AbortSignal): Promise<BatchEnd | null>;
  /** Whether that was begun, by this life of the agent or an earlier one. */
  readonly batchBegan: boolean;
  /** The current run, or a certain one. */
  interrupt(runId?: string): Promise<void>;
  complete(input: CompleteInput): Promise<CompleteResult>;
  logs(maxBytes: number): Promise<string>;
  /** The same as a stream that can be followed. */
  readonly console: ConsoleLog;
  /** A stream to something that listens inside. */
  connect(target: { readonly port: number } | { readonly service: string }): Promise<Duplex>;
  /** What it offers from its beginning: services of its image, and ports for programs of the user. */
  readonly servicePorts: readonly ServicePort[];
  /** Its services. @throws AppError `kernel-not-found` while it does not run, `unsupported-feature` for a simulated one */
  readonly services: KernelServices;
  /** Frames of a terminal, which is made if there is none of this name; see `terminal-frames.ts` of the rpc package. */
  openTerminal(terminal: TerminalOptions): Promise<Duplex>;
  /** After its end: what readers of unfinished runs would still get. Valid until its steps are undone. */
  lastWords(): Promise<ReadonlyMap<string, RunResult>>;
  /** Its processes, as this machine counts them. Absent: a simulated one. */
  pids?(): number[];
  /** What it uses now. @throws when it cannot be looked into */
  measure(): Promise<KernelUsage>;
  /**
   * Makes an image of its files, unless the agent lets go of it before. Absent: it is not made of one.
   * @throws AppError `object-exists`, `unsupported-feature`, `image-commit-failed`, `engine-unavailable`, `cancelled`
   */
  commit?(commit: KernelCommit): Promise<void>;
  /** Whether its programs stand still. */
  readonly paused: boolean;
  /** Makes them stand still. @throws AppError `unsupported-feature` where nothing can hold them */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Asks it to end, then makes it end, also when it is paused. Resolves when it has. */
  stop(reason: StatusReason, forced: boolean): Promise<void>;
}

/** Of an earlier life of the agent, whatever has become of it. */
export interface RememberedKernel {
  readonly spec: KernelSpec;
  readonly requestId: string;
  /** What it had been given; null: nobody wrote it down. */
  readonly allocation: Allocation | null;
  /** It belonged to nobody. */
  readonly isWarmSlot: boolean;
}

export interface RecoveredKernel {
  readonly spec: KernelSpec;
  readonly requestId: string;
  /** What it had been given; null: nobody wrote it down. */
  readonly allocation: Allocation | null;
  readonly plan: KernelPlan;
  /** It runs; or it ended; or it never came to run. */
  readonly outcome:
    | { readonly kind: 'running' }
    /** `batch`: how its job had ended before, if it had. */
    | { readonly kind: 'ended'; readonly end: KernelEnd; readonly batch: BatchEnd | null }
    | { readonly kind: 'not-started' };
}
