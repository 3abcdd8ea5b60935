import type { KernelSpec, WarmSlotReport, WarmSlotSpec } from '@backend.ai/contract';
import {
  AppError,
  addSlots,
  type Clock,
  fits,
  lackingSlots,
  type RequestId,
  type ResourceSlots,
  slotsFromTexts,
  subtractSlots,
} from '@backend.ai/core';
import { type BackgroundTasks, ensureRequestId, type Logger, requireRequestId } from '@backend.ai/telemetry';
import type { Accelerators } from '../accelerators/accelerators.ts';
import type { Backend, KernelPlan, SlotPlan } from '../backends/backend.ts';
import { slotAsKernel } from '../backends/slot-as-kernel.ts';
import type { AllocationLedger } from '../resources/allocation-ledger.ts';
import type { Allocation } from '../resources/inventory.ts';
import { kernelResources } from '../resources/kernel-resources.ts';
import type { StepFaults } from './create-steps.ts';
import { Kernel } from './kernel.ts';
import { startOutcome, startPlan, withResources } from './start-plan.ts';
import { compareSlots, type ToldSlots } from './told-slots.ts';

export interface WarmSlotsOptions {
  readonly backend: Backend;
  readonly ledger: AllocationLedger;
  readonly accelerators: Accelerators;
  readonly tasks: BackgroundTasks;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly faults?: StepFaults | undefined;
  /** Undoes all steps of a slot; goes on trying. Resolves when its last process has ended, if that is soon. */
  readonly remove: (kernel: Kernel) => Promise<void>;
  /** @throws AppError for what this agent would not do for the kernel that it becomes */
  readonly check: (kernel: KernelSpec) => void;
  /** Why no kernel can be started now. */
  readonly outage: () => AppError | undefined;
  /** Whether a kernel of this id is there, has been, or is still being removed. */
  readonly isTaken: (kernelId: string) => boolean;
  /** To be called when a slot has changed. */
  readonly onChange: () => void;
}

interface Entry {
  readonly spec: WarmSlotSpec;
  state: WarmSlotReport['state'];
  error?: AppError;
  /** Absent: it was never begun, or nothing is left of it. */
  kernel?: Kernel;
  plan?: SlotPlan;
}

/** A slot that has become the kernel of an order. */
export interface TakenSlot {
  readonly plan: KernelPlan;
  readonly allocation: Allocation;
}

/**
 * Kernels that were started ahead and belong to nobody. Which there are to be the manager says; which has to go for a kernel
 * that needs its resources is decided here, as an order must not wait for the manager's next word.
 */
export class WarmSlots {
  readonly #options: WarmSlotsOptions;
  readonly #entries = new Map<string, Entry>();
  /** Given up, and not gone yet. */
  readonly #leaving = new Map<string, Kernel>();
  /** Whose orders are under way, as told last. */
  #claimed: ReadonlySet<string> = new Set();
  #released = false;

  constructor(options: WarmSlotsOptions) {
    this.#options = options;
  }

  has(kernelId: string): boolean {
    return this.#entries.get(kernelId)?.kernel !== undefined || this.#leaving.has(kernelId);
  }

  reports(): WarmSlotReport[] {
    return [...this.#entries.values()].map(({ spec, state, error }) => ({
      ...{ slotId: spec.slotId, state, slots: spec.slots, image: spec.image },
      ...(error ? { error: error.toBody() } : {}),
    }));
  }

  /** Those that were left by an earlier life of the agent. */
  async recover(): Promise<void> {
    const { backend, ledger, tasks, logger } = this.#options;
    for (const { spec, requestId, allocation, plan, isReady } of (await backend.warmSlots?.recover()) ?? []) {
      const { slotId } = spec;
      if (allocation) ledger.hold(slotId, allocation);
      const held = allocation ?? ledger.holdSomewhere(slotId, slotsFromTexts(spec.slots));
      const kernel = this.#kernelOf(spec, requestId as RequestId, plan, held);
      logger.info('warm slot recovered', { slot_id: slotId, ready: isReady });
      if (isReady) this.#ready({ spec, state: 'ready', kernel, plan });
      else {
        this.#leave(kernel);
        tasks.start('remove warm slot', () => this.#options.remove(kernel), kernel.requestId);
      }
    }
  }

  /** @throws AppError `unsupported-feature`, `shutting-down`, and what is in the way now */
  keep(told: ToldSlots): void {
    if (this.#released) throw new AppError('shutting-down', 'The agent is shutting down.');
    if (!this.#options.backend.warmSlots) {
      throw new AppError('unsupported-feature', 'This agent starts no kernels ahead.');
    }
    // Those of an earlier life may not be known yet, and others would only fail.
    const outage = this.#options.outage();
    if (outage) throw outage;
    const { drop, begin } = compareSlots(told, {
      slots: [...this.#entries.keys()],
      isTaken: (slotId) => this.#leaving.has(slotId) || this.#options.isTaken(slotId),
    });
    for (const slotId of drop) this.drop(slotId);
    for (const spec of begin) this.#begin(spec);
    this.#claimed = new Set(told.claimed);
    this.#options.onChange();
  }

  /**
   * The slot that the order names by the id of its kernel. Undefined: there is none, and the kernel is started as any other.
   * @throws AppError `state-conflict` when there is one that does not suit or is not ready; it is given up
   */
  take(spec: KernelSpec): TakenSlot | undefined {
    if (this.#leaving.has(spec.kernelId)) throw cannotBeTaken();
    const entry = this.#entries.get(spec.kernelId);
    if (!entry) return undefined;
    const { kernel, plan } = entry;
    if (!kernel || !plan) {
      this.#entries.delete(spec.kernelId);
      return undefined;
    }
    const claim = entry.state === 'ready' ? plan.claim(spec, requireRequestId()) : undefined;
    if (!claim) {
      this.drop(spec.kernelId);
      throw cannotBeTaken();
    }
    this.#entries.delete(spec.kernelId);
    const before = kernel.plan.steps.slice(0, kernel.plan.steps.length - plan.steps.length);
    const made = before.map((step) => ({ ...step, made: true as const }));
    return { plan: { ...claim, steps: [...made, ...claim.steps] }, allocation: kernel.allocation };
  }

  /**
   * Gives one slot up that holds what a kernel lacks. False: there is none, or the kernel would not fit with all of those
   * gone. Whoever placed the kernel chose in the same order: what is not ready first, then what is newest.
   */
  giveWay(wanted: ResourceSlots): boolean {
    const { ledger, logger } = this.#options;
    const free = subtractSlots(ledger.capacity, ledger.used);
    const lacking = lackingSlots(wanted, free);
    // Enough in sum may be too little of each device.
    const helpful = lacking.length > 0 ? lacking : Object.keys(wanted);
    const holding = [...this.#entries.values()]
      .filter(({ state }) => state !== 'failed')
      .map((entry) => ({ entry, holds: slotsFromTexts(entry.spec.slots) }))
      .filter(({ holds }) => helpful.some((slot) => (holds[slot] ?? 0n) > 0n));
    const unclaimed = holding.filter(({ entry }) => !this.#claimed.has(entry.spec.slotId));
    const chosen = unclaimed.findLast(({ entry }) => entry.state !== 'ready') ?? unclaimed.at(-1) ?? holding.at(-1);
    if (!chosen || !fits(wanted, holding.map(({ holds }) => holds).reduce(addSlots, free))) return false;
    const { slotId } = chosen.entry.spec;
    logger.info('warm slot gives way', { slot_id: slotId });
    this.drop(slotId);
    this.#options.onChange();
    return true;
  }

  /** Unknown ones count as gone. */
  drop(slotId: string): void {
    const entry = this.#entries.get(slotId);
    if (!entry || !this.#entries.delete(slotId) || !entry.kernel) return;
    const { kernel } = entry;
    this.#leave(kernel);
    kernel.abort.abort();
    // Nobody uses it: what it holds is free before the last of it is gone.
    this.#options.ledger.release(slotId);
    // One that is being started is removed by whoever starts it, and one that failed has been.
    if (entry.state === 'ready') {
      this.#options.tasks.start('remove warm slot', () => this.#options.remove(kernel), requireRequestId());
    }
  }

  /** Starts no more. Those that are ready stay for the next life of the agent, others are given up. */
  async release(): Promise<void> {
    this.#released = true;
    const starting = [...this.#entries.values()].flatMap(({ state, kernel }) =>
      state === 'starting' && kernel ? [kernel] : [],
    );
    for (const kernel of starting) kernel.abort.abort();
    await Promise.all(starting.map((kernel) => kernel.gone.promise));
  }

  /** Gives all of them up. Resolves when none is left. */
  async endAll(): Promise<void> {
    for (const slotId of [...this.#entries.keys()]) this.drop(slotId);
    await Promise.all([...this.#leaving.values()].map((kernel) => kernel.gone.promise));
  }

  #leave(kernel: Kernel): void {
    const { kernelId } = kernel.spec;
    this.#leaving.set(kernelId, kernel);
    void kernel.gone.promise.then(() => this.#leaving.delete(kernelId));
  }

  #begin(spec: WarmSlotSpec): void {
    const { backend, ledger, tasks } = this.#options;
    const requestId = requireRequestId();
    const entry: Entry = { spec, state: 'starting' };
    this.#entries.set(spec.slotId, entry);
    try {
      this.#options.check(slotAsKernel(spec));
      const slots = slotsFromTexts(spec.slots);
      const allowFragmentation = spec.allowFractionalResourceFragmentation ?? true;
      const allocation = ledger.reserve(spec.slotId, { slots, allowFragmentation });
      const plan = backend.warmSlots?.plan(spec, requestId, kernelResources(allocation));
      if (!plan) throw new AppError('unsupported-feature', 'This agent starts no kernels ahead.');
      entry.plan = plan;
      entry.kernel = this.#kernelOf(spec, requestId, plan, allocation);
    } catch (error) {
      ledger.release(spec.slotId);
      entry.state = 'failed';
      entry.error = AppError.from(error);
      return;
    }
    const { kernel } = entry;
    tasks.start('start warm slot', () => this.#start(entry, kernel), requestId);
  }

  async #start(entry: Entry, kernel: Kernel): Promise<void> {
    const { clock, logger, faults, onChange } = this.#options;
    const { slotId } = entry.spec;
    // Kernels that somebody waits for come first.
    const outcome = startOutcome(kernel, await startPlan(kernel, { clock, faults, rank: 'later' }));
    if (outcome.kind === 'started') {
      this.#ready(entry);
      onChange();
      return;
    }
    if (outcome.kind === 'failed') {
      logger.warn('warm slot could not be started', { slot_id: slotId, ...outcome.failure });
      entry.error = outcome.failure.error;
    }
    entry.state = 'failed';
    await this.#clear(entry, kernel);
    onChange();
  }

  #ready(entry: Entry): void {
    const { tasks, logger, onChange } = this.#options;
    const { kernel, plan, spec } = entry;
    if (!kernel || !plan) return;
    this.#entries.set(spec.slotId, entry);
    entry.state = 'ready';
    kernel.state = 'running';
    void plan.handle().ended.then(({ exitCode }) => {
      // It was taken or given up before.
      if (this.#entries.get(spec.slotId) !== entry) return;
      logger.warn('warm slot has ended', { slot_id: spec.slotId, exit_code: exitCode });
      entry.state = 'failed';
      entry.error = new AppError('kernel-lost', 'The warm slot has ended by itself.', { data: { exitCode } });
      ensureRequestId(() => onChange());
      tasks.start('remove warm slot', () => this.#clear(entry, kernel), kernel.requestId);
    });
  }

  async #clear(entry: Entry, kernel: Kernel): Promise<void> {
    await this.#options.remove(kernel);
    await kernel.gone.promise;
    delete entry.kernel;
  }

  #kernelOf(spec: WarmSlotSpec, requestId: RequestId, plan: SlotPlan, allocation: Allocation): Kernel {
    const whole = withResources(plan, spec.slotId, plan.resources, this.#options);
    return new Kernel(slotAsKernel(spec), requestId, whole, allocation);
  }
}

function cannotBeTaken(): AppError {
  return new AppError('state-conflict', 'The warm slot of this kernel cannot be taken.', {
    hint: 'The session starts without one.',
  });
}
