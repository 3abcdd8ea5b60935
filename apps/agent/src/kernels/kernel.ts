import type { AgentKernelState, BatchEnd, KeptLog, KernelReport, KernelSpec, RunResult } from '@backend.ai/contract';
import { AppError, type Deferred, deferred, type RequestId, type StatusReason } from '@backend.ai/core';
import type { KernelEnd, KernelHandle, KernelPlan } from '../backends/backend.ts';
import type { Allocation } from '../resources/inventory.ts';

/** What the agent knows of one kernel that has not ended. */
export class Kernel {
  readonly spec: KernelSpec;
  readonly requestId: RequestId;
  readonly plan: KernelPlan;
  /** The devices that it has been given. */
  readonly allocation: Allocation;
  /** It was a warm slot; what fails before programs of its user run does not concern them. */
  readonly fromSlot: boolean;
  readonly abort: AbortController = new AbortController();
  /** Resolves when nothing is left of it. */
  readonly gone: Deferred<void> = deferred();
  state: AgentKernelState = 'preparing';
  handle: KernelHandle | undefined;
  /** How its batch job ended, once it has. */
  batch: BatchEnd | undefined;
  /** Whether its batch job waits for the order to begin. */
  batchWaits = false;
  /** Resolves when its batch job is no longer followed. */
  job: Promise<void> | undefined;
  /** Set once somebody wants it to end; the first reason counts. */
  destroyReason: StatusReason | undefined;
  /** The request that wants it to end. */
  destroyRequestId: RequestId | undefined;

  constructor(spec: KernelSpec, requestId: RequestId, plan: KernelPlan, allocation: Allocation, fromSlot = false) {
    this.spec = spec;
    this.requestId = requestId;
    this.plan = plan;
    this.allocation = allocation;
    this.fromSlot = fromSlot;
  }

  /** Whether somebody wants it to end, or the agent gives its start up. */
  get isUnwanted(): boolean {
    return this.destroyReason !== undefined || this.abort.signal.aborted;
  }

  /** @throws AppError `kernel-not-found` */
  get running(): KernelHandle {
    if (this.state === 'running' && this.handle) return this.handle;
    throw new AppError(
      'kernel-not-found',
      this.state === 'preparing' ? 'The kernel does not run yet.' : 'The kernel is being ended.',
    );
  }

  /** That listens. @throws AppError `kernel-not-found`, `session-paused` */
  get listening(): KernelHandle {
    const handle = this.running;
    if (!handle.paused) return handle;
    throw new AppError('session-paused', 'The session is paused: its programs stand still.');
  }

  report(): KernelReport {
    return {
      kernelId: this.spec.kernelId,
      sessionId: this.spec.sessionId,
      state: this.state,
      slots: this.spec.slots,
      exitCode: null,
      reason: this.destroyReason ?? null,
      requestId: this.requestId,
      isolation: this.handle?.isolation ?? null,
      ...(this.batch ? { batch: this.batch } : {}),
      ...(this.batchWaits ? { batchWaits: true } : {}),
      ...(this.handle?.paused ? { paused: true } : {}),
    };
  }
}

/** What is kept of a kernel that ran and has ended, so that a repeated order does not start it again. */
export interface EndedKernel extends Pick<KernelSpec, 'kernelId' | 'sessionId' | 'slots'> {
  readonly requestId: RequestId;
  readonly end: KernelEnd;
  /** By run id: what readers of its unfinished runs would still get. */
  readonly lastWords: ReadonlyMap<string, RunResult>;
  /** The end of what it wrote, for those who follow it. */
  readonly console: KeptLog | undefined;
}
