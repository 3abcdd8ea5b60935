import type { KernelReport } from '@backend.ai/contract';
import {
  AppError,
  type Clock,
  type Deferred,
  deferred,
  delay,
  hasCode,
  type RequestId,
  type StatusReason,
  slotsFromTexts,
} from '@backend.ai/core';
import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';
import type { Backend, RecoveredKernel, RememberedKernel } from '../backends/backend.ts';
import type { AllocationLedger } from '../resources/allocation-ledger.ts';

/** That somebody wants a kernel to end. */
export interface Ending {
  readonly reason: StatusReason;
  readonly requestId: RequestId;
}

export interface AdoptionOptions {
  readonly backend: Pick<Backend, 'outage' | 'recover' | 'remembered'>;
  readonly ledger: AllocationLedger;
  readonly tasks: BackgroundTasks;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called once, whatever it throws. @param endings By kernel, what was wanted before anybody knew what had become of it */
  readonly takeOver: (kernels: readonly RecoveredKernel[], endings: ReadonlyMap<string, Ending>) => Promise<void>;
}

/** What cannot be found out now is tried again after so many milliseconds. */
const againMs = 1_000;

/**
 * What an earlier life of the agent left is taken over as soon as the backend can tell what has become of it. Until then its
 * kernels are neither lost nor known to run: they hold what they were given, are reported, and end as soon as they can.
 */
export class Adoption {
  readonly #options: AdoptionOptions;
  readonly #awaited = new Map<string, RememberedKernel>();
  readonly #endings = new Map<string, Ending>();
  readonly #stopped = new AbortController();
  readonly #done: Deferred<void> = deferred();
  #failure: AppError | undefined;
  #trying: Promise<void> = Promise.resolve();

  constructor(options: AdoptionOptions) {
    this.#options = options;
  }

  /** Resolves when all is taken over, or goes on trying in the background. @throws AppError what no waiting will change */
  async begin(): Promise<void> {
    const { backend, ledger, tasks } = this.#options;
    this.#failure = backend.outage ?? (await this.#tryOnce());
    if (!this.#failure) return;
    for (const kernel of backend.remembered?.() ?? []) {
      const { spec, allocation, isWarmSlot } = kernel;
      if (allocation) ledger.hold(spec.kernelId, allocation);
      else ledger.holdSomewhere(spec.kernelId, slotsFromTexts(spec.slots));
      if (!isWarmSlot) this.#awaited.set(spec.kernelId, kernel);
    }
    tasks.start('take kernels over', () => {
      this.#trying = this.#keepTrying();
      return this.#trying;
    });
  }

  /** Resolves when all is taken over. */
  get done(): Promise<void> {
    return this.#done.promise;
  }

  /** Why that cannot be; undefined: it has been. */
  get failure(): AppError | undefined {
    return this.#failure;
  }

  awaits(kernelId: string): boolean {
    return this.#awaited.has(kernelId);
  }

  /** Of a kernel that is awaited: the first ending counts. */
  end(kernelId: string, ending: Ending): void {
    if (!this.#endings.has(kernelId)) this.#endings.set(kernelId, ending);
  }

  /** Of kernels that are awaited. */
  reports(): KernelReport[] {
    return [...this.#awaited.values()].map(({ spec: { kernelId, sessionId, slots }, requestId }) => {
      const ending = this.#endings.get(kernelId);
      return {
        ...{ kernelId, sessionId, slots, requestId, exitCode: null, isolation: null, unknown: true },
        // Whatever the manager believes of it, this does not contradict.
        state: ending ? 'terminating' : 'preparing',
        reason: ending?.reason ?? null,
      };
    });
  }

  /** Tries no more. Resolves when an attempt that was under way has ended: whatever it made is there then. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#trying;
  }

  /** Answers what stands in its way and may pass. */
  async #tryOnce(): Promise<AppError | undefined> {
    try {
      await this.#adopt();
      return undefined;
    } catch (error) {
      if (hasCode(error, 'engine-unavailable')) return error;
      throw error;
    }
  }

  async #keepTrying(): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#stopped;
    while (this.#failure && !signal.aborted) {
      await delay(clock, againMs, signal);
      if (signal.aborted) return;
      try {
        await this.#adopt();
      } catch (thrown) {
        const failure = AppError.from(thrown);
        if (failure.message !== this.#failure.message)
          logger.warn('kernels cannot be taken over yet', { error: thrown });
        this.#failure = failure;
      }
    }
  }

  async #adopt(): Promise<void> {
    const { backend, takeOver, logger } = this.#options;
    const recovered = await backend.recover();
    if (this.#stopped.signal.aborted) return;
    this.#awaited.clear();
    try {
      await takeOver(recovered, this.#endings);
    } catch (error) {
      // Another time would follow again what is followed by now.
      logger.error('not everything could be taken over', { error });
    } finally {
      this.#failure = undefined;
      this.#done.resolve();
    }
  }
}
