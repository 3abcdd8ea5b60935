import {
  type BatchEnd,
  type KeptLog,
  type KernelReport,
  type KernelSpec,
  keptLogBytes,
  type Metrics,
  type RunResult,
  type StepTiming,
} from '@backend.ai/contract';
import {
  AppError,
  type Clock,
  deferred,
  delay,
  hasCode,
  type RequestId,
  type StatusReason,
  slotsFromTexts,
  statusReasons,
} from '@backend.ai/core';
import { type BackgroundTasks, type Logger, requireRequestId, runWithRequest } from '@backend.ai/telemetry';
import type { Accelerators } from '../accelerators/accelerators.ts';
import type { Backend, CreateStep, KernelEnd, KernelPlan } from '../backends/backend.ts';
import { keepLog } from '../files/kept-log.ts';
import type { AllocationLedger } from '../resources/allocation-ledger.ts';
import type { Allocation } from '../resources/inventory.ts';
import { kernelResources } from '../resources/kernel-resources.ts';
import { runSteps, type StepFailure } from './create-steps.ts';
import { EndedKernels } from './ended-kernels.ts';
import { Kernel } from './kernel.ts';
import type { UnnumberedEvent } from './outbox.ts';
import { Remains, type StrayView } from './remains.ts';
import { attachDevicesStep } from './steps/attach-devices.ts';
import { reservedResourcesStep } from './steps/reserve-resources.ts';
import { WarmSlots } from './warm-slots.ts';

/** An event without what the supervisor adds itself. */
type Report = UnnumberedEvent extends infer Event
  ? Event extends unknown
    ? Omit<Event, 'at' | 'requestId' | 'kernelId' | 'sessionId'>
    : never
  : never;

export interface SupervisorOptions {
  readonly backend: Backend;
  readonly ledger: AllocationLedger;
  readonly accelerators: Accelerators;
  readonly tasks: BackgroundTasks;
  readonly report: (event: UnnumberedEvent) => void;
  /** All that an ended kernel has used, while it can still be looked into. Answers soon, and does not throw. */
  readonly usedBy: (kernel: Kernel) => Promise<Metrics | undefined>;
  /** Called when a warm slot has changed. */
  readonly onWarmSlots?: (() => void) | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** For tests: throws in place of a step that has just run. */
  readonly afterStep?: ((step: string, kernelId: string) => void) | undefined;
  /** Strays that are younger stay, in milliseconds; a minute unless said otherwise. */
  readonly strayGraceMs?: number | undefined;
}

/** Told of a kernel with its end. */
interface Left {
  readonly log?: string | undefined;
  readonly console?: KeptLog | undefined;
  readonly metrics?: Metrics | undefined;
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
  /** Kernels that belong to nobody yet. */
  readonly warmSlots: WarmSlots;
  #released = false;
  readonly #letGo = new AbortController();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    const { backend, clock, logger, strayGraceMs } = options;
    const lives = (kernelId: string): boolean => this.#kernels.has(kernelId) || this.warmSlots.has(kernelId);
    this.#remains = new Remains({ backend, lives, clock, logger, strayGraceMs });
    this.warmSlots = new WarmSlots({
      ...options,
      remove: (kernel) => this.#remove(kernel, () => {}),
      check: (kernel) => this.#refuseUnenforced(kernel),
      isTaken: (id) => this.#kernels.has(id) || this.#remains.has(id) || this.#ended.get(id) !== undefined,
      onChange: () => options.onWarmSlots?.(),
    });
  }

  /**
   * Takes over what an earlier life of the agent left: kernels that run go on, those that died are reported, the rest is
   * removed in the background.
   */
  async recover(): Promise<void> {
    const { backend, ledger, tasks, logger } = this.#options;
    const recovered = await backend.recover();
    // Whoever's devices are known keeps those, before others get some of what is left.
    for (const { spec, allocation } of recovered) if (allocation) ledger.hold(spec.kernelId, allocation);
    for (const { spec, requestId, plan, outcome, allocation } of recovered) {
      const held = allocation ?? ledger.holdSomewhere(spec.kernelId, slotsFromTexts(spec.slots));
      const reserve = reservedResourcesStep(ledger, spec.kernelId);
      const kernel = new Kernel(spec, requestId as RequestId, { ...plan, steps: [reserve, ...plan.steps] }, held);
      this.#kernels.set(spec.kernelId, kernel);
      logger.info('kernel recovered', { kernel_id: spec.kernelId, outcome: outcome.kind });
      if (outcome.kind === 'running') {
        this.#follow(kernel);
        this.#followJob(kernel);
      } else {
        kernel.state = 'terminating';
        if (outcome.kind === 'ended' && outcome.batch) this.#jobEnded(kernel, outcome.batch);
        const finish = (): Promise<void> =>
          outcome.kind === 'ended' ? this.#finish(kernel, outcome.end) : this.#fail(kernel, interruptedStart());
        tasks.start('remove kernel', finish, kernel.requestId);
      }
    }
    await this.warmSlots.recover();
    this.#remains.start();
  }

  /**
   * @throws AppError `insufficient-capacity`, `unknown-image`, `unsupported-feature`, `isolation-unavailable`,
   * `shutting-down`
   */
  create(spec: KernelSpec): void {
    const { ledger, tasks, clock } = this.#options;
    const { kernelId } = spec;
    if (this.#released) throw new AppError('shutting-down', 'The agent is shutting down.');
    if (this.#kernels.has(kernelId)) return;
    const ended = this.#ended.get(kernelId);
    if (ended) {
      this.#reportEnd(ended, ended.requestId, ended.end);
      return;
    }
    if (this.#remains.has(kernelId)) {
      throw new AppError('state-conflict', 'What an earlier kernel of this id left is still being removed.');
    }
    this.#refuseUnenforced(spec);
    const requestId = requireRequestId();
    const startedAt = clock.monotonic();
    const slot = this.warmSlots.take(spec);
    const allocation = slot?.allocation ?? this.#reserve(spec);
    const reserve = reservedResourcesStep(ledger, kernelId);
    const reserved = { step: reserve.name, ms: Math.round((clock.monotonic() - startedAt) * 1000) / 1000 };
    const plan = slot?.plan ?? this.#plan(spec, requestId, allocation, reserve);
    const kernel = new Kernel(spec, requestId, plan, allocation, slot !== undefined);
    this.#kernels.set(kernelId, kernel);
    this.#report(kernel, { type: 'kernel-preparing' });
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
    // Its session ended before the slot was handed over.
    this.warmSlots.drop(kernelId);
    const ended = this.#ended.get(kernelId);
    const session = ended?.sessionId ?? unknownSession;
    const end = ended?.end ?? { exitCode: null, reason: asReason(reason) };
    this.#reportEnd({ kernelId, sessionId: session }, requestId, end);
  }

  /** Begins the batch job of a kernel that waits for this. @throws AppError `kernel-not-found` unless it runs, `session-paused` */
  beginBatch(kernelId: string): void {
    const kernel = this.get(kernelId);
    void kernel.listening;
    if (kernel.batchWaits) this.#followJob(kernel, { ordered: true });
  }

  find(kernelId: string): Kernel | undefined {
    return this.#kernels.get(kernelId);
  }

  /** @throws AppError `kernel-not-found` */
  get(kernelId: string): Kernel {
    const kernel = this.#kernels.get(kernelId);
    if (!kernel) throw new AppError('kernel-not-found', 'This agent has no such kernel.');
    return kernel;
  }

  /** What is still to be said about a run of a kernel that has ended. */
  lastWords(kernelId: string, runId: string): RunResult | undefined {
    return this.#ended.get(kernelId)?.lastWords.get(runId);
  }

  reports(): KernelReport[] {
    return [...this.#kernels.values()].map((kernel) => kernel.report());
  }

  running(): Kernel[] {
    return [...this.#kernels.values()].filter(({ state }) => state === 'running');
  }

  /** What is kept of the output of an ended kernel, for as long as it is remembered. */
  endedConsole(kernelId: string): KeptLog | undefined {
    return this.#ended.get(kernelId)?.console;
  }

  /** An ended kernel for as long as it is remembered. */
  endedReport(kernelId: string): KernelReport | undefined {
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
    const kernels = [...this.#kernels.values()];
    for (const kernel of kernels) this.#destroy(kernel, reason, true, requireRequestId());
    const all = Promise.all([...kernels.map((kernel) => kernel.gone.promise), this.warmSlots.endAll()]);
    const over = new AbortController();
    await Promise.race([all, delay(clock, deadlineMs, over.signal)]);
    over.abort();
    return [...this.#kernels.keys()];
  }

  /** Starts no more kernels and follows none: they go on by themselves. Starts under way are given up. */
  async release(): Promise<void> {
    this.#released = true;
    this.#letGo.abort();
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

  #refuseUnenforced({ egress }: KernelSpec): void {
    const { kind, capabilities } = this.#options.backend;
    if (!egress || egress.policy === 'open' || capabilities.isolation.egress === 'enforced') return;
    throw new AppError(
      'isolation-unavailable',
      `This agent cannot keep kernels to the egress policy ${egress.policy}.`,
      {
        data: { backend: kind, egress: egress.policy },
        hint: 'Give the resource group agents with containers and a firewall (root, iptables), or the policy open.',
      },
    );
  }

  /** @throws AppError when there is none; then nothing is held */
  #plan(spec: KernelSpec, requestId: RequestId, allocation: Allocation, reserve: CreateStep): KernelPlan {
    const { backend, ledger, accelerators } = this.#options;
    const resources = kernelResources(allocation);
    try {
      const plan = backend.plan(spec, requestId, resources);
      const target = { kernelId: spec.kernelId, backend: backend.kind };
      const attach = accelerators.concerns(allocation) ? [attachDevicesStep(resources, target, accelerators)] : [];
      return { ...plan, steps: [reserve, ...attach, ...plan.steps] };
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
    const { clock, logger, afterStep } = this.#options;
    const { kernelId } = kernel.spec;
    const { timings, failure } = await runSteps(kernel.plan.steps, {
      signal: kernel.abort.signal,
      clock,
      beforeStep: (step) => {
        if (step === kernel.plan.launchStep) this.#report(kernel, { type: 'kernel-creating' });
      },
      // The only news there is. Of a kernel that is to end nobody wants it.
      onNews: () => {
        if (kernel.state === 'preparing') this.#report(kernel, { type: 'kernel-pulling' });
      },
      afterStep: afterStep && ((step) => afterStep(step, kernelId)),
    });
    if (kernel.destroyReason || kernel.abort.signal.aborted) {
      if (!failure)
        return await this.#finish(kernel, { exitCode: null, reason: kernel.destroyReason ?? 'cluster-shutdown' });
      return await this.#cancelled(kernel);
    }
    if (failure) return await this.#fail(kernel, failure);
    const handle = this.#follow(kernel);
    // Of a slot nothing was reserved anew.
    const others = kernel.fromSlot ? timings : timings.slice(1);
    const { isolation, servicePorts } = handle;
    this.#report(kernel, {
      ...{ type: 'kernel-started', steps: [reserved, ...others], isolation },
      ...(servicePorts.length > 0 ? { services: [...servicePorts] } : {}),
    });
    this.#followJob(kernel);
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

  /**
   * Begins the batch job of a kernel that runs, or goes on waiting for one that was begun before. One that begins on an
   * order waits for that, and reports tell so.
   */
  #followJob(kernel: Kernel, { ordered = false } = {}): void {
    const { handle } = kernel;
    const { batch } = kernel.spec;
    if (!batch || !handle) return;
    kernel.batchWaits = batch.onOrder === true && !ordered && !handle.batchBegan;
    if (kernel.batchWaits) return;
    const followed = deferred();
    kernel.job = followed.promise;
    const follow = async (): Promise<void> => {
      try {
        const end = await handle.runBatch(batch, this.#letGo.signal);
        if (end) this.#jobEnded(kernel, end);
      } finally {
        followed.resolve();
      }
    };
    this.#options.tasks.start('follow batch job', follow, kernel.requestId);
  }

  #jobEnded(kernel: Kernel, end: BatchEnd): void {
    kernel.batch = end;
    this.#report(kernel, { type: 'batch-finished', ...end });
    this.#options.logger.info('batch job finished', { kernel_id: kernel.spec.kernelId, ...end });
  }

  async #fail(kernel: Kernel, { step, error }: StepFailure): Promise<void> {
    const { kernelId } = kernel.spec;
    this.#options.logger.warn('kernel could not be started', { kernel_id: kernelId, step, error });
    if (kernel.fromSlot && step !== 'bootstrap') {
      return await this.#remove(kernel, () => {
        if (kernel.destroyReason || kernel.abort.signal.aborted) this.#reportCancelled(kernel);
        else this.#startAfresh(kernel, step);
      });
    }
    const log = await this.#endOfLog(kernel);
    await this.#remove(kernel, () => {
      this.#report(kernel, {
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
        this.#send(spec, requestId, { type: 'kernel-start-failed', error: body, failedStep });
      }
    });
  }

  /** Ended before it ran: a later order with the same id starts it anew. */
  async #cancelled(kernel: Kernel): Promise<void> {
    await this.#remove(kernel, () => this.#reportCancelled(kernel));
  }

  #reportCancelled(kernel: Kernel): void {
    const end = { exitCode: null, reason: kernel.destroyReason ?? 'cluster-shutdown' } as const;
    this.#reportEnd(kernel.spec, kernel.destroyRequestId ?? kernel.requestId, end);
  }

  async #finish(kernel: Kernel, { exitCode, reason }: KernelEnd): Promise<void> {
    const { logger } = this.#options;
    const { kernelId } = kernel.spec;
    kernel.state = 'terminating';
    const end: KernelEnd = { exitCode, reason: kernel.destroyReason ?? reason };
    // A job that ended first is told of first.
    await kernel.job;
    const lastWords = (await kernel.handle?.lastWords()) ?? new Map();
    const log = await this.#endOfLog(kernel);
    const console = this.#keptConsole(kernel);
    const metrics = await this.#options.usedBy(kernel);
    await this.#remove(kernel, () => {
      const { sessionId, slots } = kernel.spec;
      this.#ended.add({ kernelId, sessionId, slots, requestId: kernel.requestId, end, lastWords, console });
      this.#reportEnd(kernel.spec, kernel.destroyRequestId ?? kernel.requestId, end, { log, console, metrics });
      logger.info('kernel terminated', { kernel_id: kernelId, reason: end.reason, exit_code: end.exitCode });
    });
  }

  /** @param conclude Tells the end. Not before the last process has ended; files may take longer. */
  #remove(kernel: Kernel, conclude: () => void): Promise<void> {
    return this.#remains.remove(kernel, () => {
      this.#kernels.delete(kernel.spec.kernelId);
      conclude();
      kernel.gone.resolve();
    });
  }

  /** Best effort: what is left of a log must not keep a kernel from ending. */
  async #endOfLog({ spec, plan, handle }: Kernel): Promise<string | undefined> {
    try {
      // Bytes that are no text become longer; the event has its limit.
      return (await (handle ?? plan.launched())?.logs(keptLogBytes))?.slice(-keptLogBytes);
    } catch (error) {
      this.#options.logger.warn('log of an ended kernel could not be read', { kernel_id: spec.kernelId, error });
      return undefined;
    }
  }

  #keptConsole({ spec, handle }: Kernel): KeptLog | undefined {
    try {
      return handle && keepLog(handle.console);
    } catch (error) {
      this.#options.logger.warn('log of an ended kernel could not be kept', { kernel_id: spec.kernelId, error });
      return undefined;
    }
  }

  #reportEnd(
    spec: Pick<KernelSpec, 'kernelId' | 'sessionId'>,
    requestId: RequestId,
    { exitCode, reason }: KernelEnd,
    { log, console, metrics }: Left = {},
  ): void {
    const left = { ...(log ? { log } : {}), ...(console ? { console } : {}), ...(metrics ? { metrics } : {}) };
    this.#send(spec, requestId, { type: 'kernel-terminated', exitCode, reason, ...left });
  }

  #report(kernel: Kernel, event: Report): void {
    this.#send(kernel.spec, kernel.requestId, event);
  }

  #send(spec: Pick<KernelSpec, 'kernelId' | 'sessionId'>, requestId: RequestId, event: Report): void {
    const { kernelId, sessionId } = spec;
    const at = new Date(this.#options.clock.now()).toISOString();
    const complete = { ...event, at, requestId, kernelId, sessionId } as UnnumberedEvent;
    runWithRequest({ requestId }, () => this.#options.report(complete));
  }
}

function interruptedStart(): StepFailure {
  const error = new AppError('kernel-start-failed', 'The agent was restarted while the kernel was being started.');
  return { step: 'await-runner', error };
}

function asReason(reason: string): StatusReason {
  return reason in statusReasons ? (reason as StatusReason) : 'user-requested';
}
