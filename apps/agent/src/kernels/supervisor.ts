import type { KeptLog, KernelReport, KernelSpec, Metrics, RunResult, StepTiming } from '@backend.ai/contract';
import {
  AppError,
  type Clock,
  hasCode,
  type RequestId,
  type StatusReason,
  slotsFromTexts,
  statusReasons,
  within,
} from '@backend.ai/core';
import { type BackgroundTasks, type Logger, requireRequestId, runWithRequest } from '@backend.ai/telemetry';
import type { Accelerators } from '../accelerators/accelerators.ts';
import type { Backend, KernelEnd, KernelPlan, RecoveredKernel } from '../backends/backend.ts';
import type { AllocationLedger } from '../resources/allocation-ledger.ts';
import type { Allocation } from '../resources/inventory.ts';
import { kernelResources } from '../resources/kernel-resources.ts';
import { Adoption, type Ending } from './adoption.ts';
import { BatchJobs } from './batch-jobs.ts';
import type { StepFailure, StepFaults } from './create-steps.ts';
import { EndedKernels } from './ended-kernels.ts';
import { Kernel } from './kernel.ts';
import { KernelNews } from './kernel-news.ts';
import { judgeOrder, refuseUnenforced } from './order.ts';
import type { UnnumberedEvent } from './outbox.ts';
import { Remains, type StrayView } from './remains.ts';
import { startOutcome, startPlan, withResources } from './start-plan.ts';
import { reservedResourcesStep, reserveResources } from './steps/reserve-resources.ts';
import { WarmSlots } from './warm-slots.ts';

export interface SupervisorOptions {
  readonly backend: Backend;
  readonly ledger: AllocationLedger;
  readonly accelerators: Accelerators;
  readonly tasks: BackgroundTasks;
  /** Whether the disk that kernels write to has no room for another one. */
  readonly diskFull: () => boolean;
  readonly report: (event: UnnumberedEvent) => void;
  /** All that an ended kernel has used, while it can still be looked into. Answers soon, and does not throw. */
  readonly usedBy: (kernel: Kernel) => Promise<Metrics | undefined>;
  /** Called when a warm slot has changed. */
  readonly onWarmSlots?: (() => void) | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly faults?: StepFaults | undefined;
  /** Strays that are younger stay, in milliseconds; a minute unless said otherwise. */
  readonly strayGraceMs?: number | undefined;
}

/** The session of a kernel that this agent never heard of. */
const unknownSession = '00000000-0000-0000-0000-000000000000';

/**
 * The lives of all kernels: starts them step by step, notices their ends, removes what they leave, and reports. The same
 * for every backend.
 */
export class KernelSupervisor {
  readonly #options: SupervisorOptions;
  readonly #kernels = new Map<string, Kernel>();
  readonly #ended = new EndedKernels();
  readonly #remains: Remains;
  readonly #adoption: Adoption;
  /** Kernels that belong to nobody yet. */
  readonly warmSlots: WarmSlots;
  readonly #news: KernelNews;
  readonly #jobs: BatchJobs;
  #released = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    const { backend, clock, logger, strayGraceMs } = options;
    const lives = (kernelId: string): boolean => this.#kernels.has(kernelId) || this.warmSlots.has(kernelId);
    this.#news = new KernelNews(options);
    this.#jobs = new BatchJobs({ ...options, news: this.#news });
    this.#remains = new Remains({ backend, lives, clock, logger, strayGraceMs });
    this.#adoption = new Adoption({ ...options, takeOver: (...found) => this.#takeOver(...found) });
    this.warmSlots = new WarmSlots({
      ...options,
      remove: (kernel) => this.#remove(kernel, () => {}),
      check: (kernel) => refuseUnenforced(kernel, backend),
      outage: () => this.outage,
      isTaken: (id) => this.#kernels.has(id) || this.#remains.has(id) || this.#ended.get(id) !== undefined,
      onChange: () => options.onWarmSlots?.(),
    });
  }

  /**
   * Takes over what an earlier life of the agent left: kernels that run go on, those that died are reported, the rest is
   * removed in the background. In an outage of the backend all of that follows once it is over; see `recovered`.
   */
  async recover(): Promise<void> {
    await this.#adoption.begin();
  }

  /** Resolves when everything has been taken over. */
  get recovered(): Promise<void> {
    return this.#adoption.done;
  }

  /** Why no kernels are started now, though they may be soon; undefined: they are. */
  get outage(): AppError | undefined {
    return this.#options.backend.outage ?? this.#adoption.failure;
  }

  async #takeOver(recovered: readonly RecoveredKernel[], endings: ReadonlyMap<string, Ending>): Promise<void> {
    const { ledger, tasks, logger } = this.#options;
    // Whoever's devices are known keeps those, before others get some of what is left.
    for (const { spec, allocation } of recovered) if (allocation) ledger.hold(spec.kernelId, allocation);
    for (const { spec, requestId, plan, outcome, allocation } of recovered) {
      const held = allocation ?? ledger.holdSomewhere(spec.kernelId, slotsFromTexts(spec.slots));
      const reserve = reservedResourcesStep(ledger, spec.kernelId);
      const kernel = new Kernel(spec, requestId as RequestId, { ...plan, steps: [reserve, ...plan.steps] }, held);
      this.#kernels.set(spec.kernelId, kernel);
      logger.info('kernel recovered', { kernel_id: spec.kernelId, outcome: outcome.kind });
      const ending = endings.get(spec.kernelId);
      kernel.destroyReason = ending?.reason;
      kernel.destroyRequestId = ending?.requestId;
      if (outcome.kind === 'running') {
        this.#follow(kernel);
        this.#jobs.follow(kernel);
        if (ending) this.#destroy(kernel, ending.reason, true, ending.requestId);
      } else {
        kernel.state = 'terminating';
        if (outcome.kind === 'ended' && outcome.batch) this.#jobs.ended(kernel, outcome.batch);
        const finish = (): Promise<void> =>
          outcome.kind === 'ended' ? this.#finish(kernel, outcome.end) : this.#fail(kernel, interruptedStart());
        tasks.start('remove kernel', finish, kernel.requestId);
      }
    }
    try {
      await this.warmSlots.recover();
    } finally {
      this.#remains.start();
    }
  }

  /**
   * @throws AppError `insufficient-capacity`, `disk-full`, `unknown-image`, `unsupported-feature`, `isolation-unavailable`,
   * `engine-unavailable`, `shutting-down`
   */
  create(spec: KernelSpec): void {
    const { backend, tasks, clock } = this.#options;
    const { kernelId } = spec;
    const facts = {
      released: this.#released,
      lives: this.#kernels.has(kernelId) || this.#adoption.awaits(kernelId),
      outage: this.outage,
      ended: this.#ended.get(kernelId),
      isRemoved: this.#remains.has(kernelId),
      diskFull: this.#options.diskFull(),
    };
    const verdict = judgeOrder(spec, facts, backend);
    if (verdict.act === 'none') return;
    if (verdict.act === 'tell-end') {
      const { ended } = verdict;
      this.#news.end(ended, ended.requestId, ended.end);
      return;
    }
    const requestId = requireRequestId();
    const startedAt = clock.monotonic();
    const slot = this.warmSlots.take(spec);
    const allocation = slot?.allocation ?? this.#reserve(spec);
    const reserved = { step: reserveResources, ms: Math.round((clock.monotonic() - startedAt) * 1000) / 1000 };
    const plan = slot?.plan ?? this.#plan(spec, requestId, allocation);
    const kernel = new Kernel(spec, requestId, plan, allocation, slot !== undefined);
    this.#kernels.set(kernelId, kernel);
    this.#news.tell(kernel, { type: 'kernel-preparing' });
    tasks.start('start kernel', () => this.#start(kernel, reserved), requestId);
  }

  /** Unknown kernels count as ended. */
  destroy(kernelId: string, reason: string, forced: boolean): void {
    const requestId = requireRequestId();
    const kernel = this.#kernels.get(kernelId);
    if (kernel) {
      this.#destroy(kernel, asReason(reason), forced, requestId);
      return;
    }
    if (this.#adoption.awaits(kernelId)) {
      this.#adoption.end(kernelId, { reason: asReason(reason), requestId });
      return;
    }
    // Its session ended before the slot was handed over.
    this.warmSlots.drop(kernelId);
    const ended = this.#ended.get(kernelId);
    const session = ended?.sessionId ?? unknownSession;
    const end = ended?.end ?? { exitCode: null, reason: asReason(reason) };
    this.#news.end({ kernelId, sessionId: session }, requestId, end);
  }

  /**
   * Begins the batch job of a kernel that waits for this.
   * @throws AppError `kernel-not-found` unless it runs, `session-paused`
   */
  beginBatch(kernelId: string): void {
    const kernel = this.get(kernelId);
    void kernel.listening;
    if (kernel.batchWaits) this.#jobs.follow(kernel, { ordered: true });
  }

  find(kernelId: string): Kernel | undefined {
    return this.#kernels.get(kernelId);
  }

  /** @throws AppError `kernel-not-found`, `engine-unavailable` */
  get(kernelId: string): Kernel {
    const kernel = this.#kernels.get(kernelId);
    if (this.outage && this.#adoption.awaits(kernelId)) throw this.outage;
    if (!kernel) throw new AppError('kernel-not-found', 'This agent has no such kernel.');
    return kernel;
  }

  /** What is still to be said about a run of a kernel that has ended. */
  lastWords(kernelId: string, runId: string): RunResult | undefined {
    return this.#ended.get(kernelId)?.lastWords.get(runId);
  }

  reports(): KernelReport[] {
    return [...[...this.#kernels.values()].map((kernel) => kernel.report()), ...this.#adoption.reports()];
  }

  /** Of one that lives, or is remembered. @throws AppError `kernel-not-found` */
  report(kernelId: string): KernelReport {
    const awaited = (): KernelReport | undefined =>
      this.#adoption.reports().find((report) => report.kernelId === kernelId);
    return this.find(kernelId)?.report() ?? awaited() ?? this.#endedReport(kernelId) ?? this.get(kernelId).report();
  }

  running(): Kernel[] {
    return [...this.#kernels.values()].filter(({ state }) => state === 'running');
  }

  /** What is kept of the output of an ended kernel, for as long as it is remembered. */
  endedConsole(kernelId: string): KeptLog | undefined {
    return this.#ended.get(kernelId)?.console;
  }

  /** An ended kernel for as long as it is remembered. */
  #endedReport(kernelId: string): KernelReport | undefined {
    const ended = this.#ended.get(kernelId);
    if (!ended) return undefined;
    const { sessionId, slots, requestId, end } = ended;
    return { kernelId, sessionId, state: 'terminated', slots, ...end, requestId, isolation: null };
  }

  /** @param dryRun Only tells what there is */
  sweepStrays({ dryRun }: { readonly dryRun?: boolean } = {}): Promise<StrayView[]> {
    return this.#remains.sweepStrays(dryRun);
  }

  /** Ends all kernels. Answers the ids of those that are still there when the time is over. */
  async endAll(reason: StatusReason, deadlineMs: number): Promise<string[]> {
    const { clock } = this.#options;
    for (const { kernelId } of this.reports()) this.destroy(kernelId, reason, true);
    const all = this.recovered.then(() =>
      Promise.all([...[...this.#kernels.values()].map((kernel) => kernel.gone.promise), this.warmSlots.endAll()]),
    );
    await within(clock, deadlineMs, all);
    return this.reports().map(({ kernelId }) => kernelId);
  }

  /** Starts no more kernels and follows none: they go on by themselves. Starts under way are given up. */
  async release(): Promise<void> {
    this.#released = true;
    // What is being taken over is let go of like the rest.
    await this.#adoption.stop();
    this.#jobs.letGo();
    for (const kernel of this.#kernels.values()) {
      if (kernel.state === 'preparing') kernel.abort.abort();
    }
    const starting = [...this.#kernels.values()].filter((kernel) => kernel.state !== 'running');
    await Promise.all([
      this.#remains.stop(),
      this.warmSlots.release(),
      ...starting.map((kernel) => kernel.gone.promise),
    ]);
  }

  /** Warm slots give way to a kernel that needs what they hold. @throws AppError `insufficient-capacity`, `invalid-input` */
  #reserve(spec: KernelSpec): Allocation {
    const { ledger } = this.#options;
    const request = {
      slots: slotsFromTexts(spec.slots),
      allowFragmentation: spec.allowFractionalResourceFragmentation ?? true,
    };
    for (;;) {
      try {
        return ledger.reserve(spec.kernelId, request);
      } catch (error) {
        if (!hasCode(error, 'insufficient-capacity') || !this.warmSlots.giveWay(request.slots)) throw error;
      }
    }
  }

  /** @throws AppError when there is none; then nothing is held */
  #plan(spec: KernelSpec, requestId: RequestId, allocation: Allocation): KernelPlan {
    const { backend, ledger } = this.#options;
    const resources = kernelResources(allocation);
    try {
      return withResources(backend.plan(spec, requestId, resources), spec.kernelId, resources, this.#options);
    } catch (error) {
      ledger.release(spec.kernelId);
      throw error;
    }
  }

  #destroy(kernel: Kernel, reason: StatusReason, forced: boolean, requestId: RequestId): void {
    kernel.destroyReason ??= reason;
    kernel.destroyRequestId ??= requestId;
    if (kernel.state === 'preparing') {
      kernel.state = 'terminating';
      kernel.abort.abort();
      return;
    }
    const { handle } = kernel;
    if (!handle || (kernel.state === 'terminating' && !forced)) return;
    kernel.state = 'terminating';
    this.#options.tasks.start('stop kernel', () => handle.stop(reason, forced), requestId);
  }

  async #start(kernel: Kernel, reserved: StepTiming): Promise<void> {
    const { clock, logger, faults } = this.#options;
    const { kernelId } = kernel.spec;
    const run = await startPlan(kernel, {
      ...{ clock, faults },
      beforeStep: (step) => {
        if (step === kernel.plan.launchStep) this.#news.tell(kernel, { type: 'kernel-creating' });
      },
      // The only news there is. Of a kernel that is to end nobody wants it.
      onNews: () => {
        if (kernel.state === 'preparing') this.#news.tell(kernel, { type: 'kernel-pulling' });
      },
    });
    const outcome = startOutcome(kernel, run);
    if (outcome.kind === 'failed') return await this.#fail(kernel, outcome.failure);
    if (outcome.kind === 'unwanted') {
      if (!outcome.complete) return await this.#cancelled(kernel);
      return await this.#finish(kernel, { exitCode: null, reason: kernel.destroyReason ?? 'cluster-shutdown' });
    }
    const handle = this.#follow(kernel);
    // It was done when the order was taken, and timed then.
    const others = outcome.timings.filter(({ step }) => step !== reserveResources);
    const { isolation, servicePorts } = handle;
    this.#news.tell(kernel, {
      ...{ type: 'kernel-started', steps: [reserved, ...others], isolation },
      ...(servicePorts.length > 0 ? { services: [...servicePorts] } : {}),
    });
    this.#jobs.follow(kernel);
    logger.info('kernel started', { kernel_id: kernelId, steps: [reserved, ...others] });
  }

  #follow(kernel: Kernel) {
    const { tasks } = this.#options;
    const handle = kernel.plan.handle();
    kernel.handle = handle;
    kernel.state = 'running';
    void handle.ended.then((end) => {
      const cause = kernel.destroyRequestId ?? kernel.requestId;
      tasks.start('remove kernel', () => this.#finish(kernel, end), cause);
    });
    return handle;
  }

  async #fail(kernel: Kernel, { step, error }: StepFailure): Promise<void> {
    const { kernelId } = kernel.spec;
    this.#options.logger.warn('kernel could not be started', { kernel_id: kernelId, step, error });
    if (kernel.fromSlot && step !== 'bootstrap') {
      return await this.#remove(kernel, () => {
        if (kernel.isUnwanted) this.#reportCancelled(kernel);
        else this.#startAfresh(kernel, step);
      });
    }
    const log = await this.#news.endOfLog(kernel);
    await this.#remove(kernel, () => {
      this.#news.tell(kernel, {
        ...{ type: 'kernel-start-failed', error: error.toBody(kernel.requestId), failedStep: step },
        ...(log ? { log } : {}),
      });
    });
  }

  /** The slot was of no use; no program of the user has run in it. */
  #startAfresh({ spec, requestId }: Kernel, failedStep: string): void {
    runWithRequest({ requestId }, () => {
      try {
        this.create(spec);
      } catch (error) {
        const body = AppError.from(error).toBody(requestId);
        this.#news.send(spec, requestId, { type: 'kernel-start-failed', error: body, failedStep });
      }
    });
  }

  /** Ended before it ran: a later order with the same id starts it anew. */
  async #cancelled(kernel: Kernel): Promise<void> {
    await this.#remove(kernel, () => this.#reportCancelled(kernel));
  }

  #reportCancelled(kernel: Kernel): void {
    const end = { exitCode: null, reason: kernel.destroyReason ?? 'cluster-shutdown' } as const;
    this.#news.end(kernel.spec, kernel.destroyRequestId ?? kernel.requestId, end);
  }

  async #finish(kernel: Kernel, { exitCode, reason }: KernelEnd): Promise<void> {
    const { logger } = this.#options;
    const { kernelId } = kernel.spec;
    kernel.state = 'terminating';
    const end: KernelEnd = { exitCode, reason: kernel.destroyReason ?? reason };
    // A job that ended first is told of first.
    await kernel.job;
    const lastWords = (await kernel.handle?.lastWords()) ?? new Map();
    const log = await this.#news.endOfLog(kernel);
    const console = this.#news.keptConsole(kernel);
    const metrics = await this.#options.usedBy(kernel);
    await this.#remove(kernel, () => {
      const { sessionId, slots } = kernel.spec;
      this.#ended.add({ kernelId, sessionId, slots, requestId: kernel.requestId, end, lastWords, console });
      this.#news.end(kernel.spec, kernel.destroyRequestId ?? kernel.requestId, end, { log, console, metrics });
      logger.info('kernel terminated', { kernel_id: kernelId, reason: end.reason, exit_code: end.exitCode });
    });
  }

  /** @param conclude Tells the end. Not before the last process has ended; files may take longer. */
  #remove(kernel: Kernel, conclude: () => void): Promise<void> {
    return this.#remains.remove(kernel, () => {
      this.#kernels.delete(kernel.spec.kernelId);
      try {
        conclude();
      } finally {
        kernel.gone.resolve();
      }
    });
  }
}

function interruptedStart(): StepFailure {
  const error = new AppError('kernel-start-failed', 'The agent was restarted while the kernel was being started.');
  return { step: 'await-runner', error };
}

function asReason(reason: string): StatusReason {
  return reason in statusReasons ? (reason as StatusReason) : 'user-requested';
}
