import { backoffMs, type Clock, deferred, newRequestId, type RequestId, systemClock } from '@backend.ai/core';
import type { Logger } from './logger.ts';
import { observations } from './observations.ts';
import { ensureRequestId, runWithRequest } from './request-context.ts';

/**
 * The only ways to start work that nobody awaits. Both bind a request id, log what the work throws and can be waited
 * for, so that nothing runs unnamed, fails unseen or outlives its owner.
 */
export class BackgroundTasks {
  readonly #logger: Logger;
  readonly #running = new Set<Promise<void>>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Starts `work` under `requestId`, the present id, or a new one. */
  start(name: string, work: () => Promise<void>, requestId?: RequestId): void {
    const running: Promise<void> = ensureRequestId(
      () =>
        Promise.resolve()
          .then(work)
          .catch((error: unknown) => this.#logger.error('background task failed', { task: name, error }))
          .finally(() => this.#running.delete(running)),
      requestId,
    );
    this.#running.add(running);
  }

  /** Resolves when everything started so far, and by that, has ended. */
  async drain(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}

export interface LoopOptions {
  readonly name: string;
  /** Runs again after this many milliseconds even if nobody hinted. */
  readonly tickMs: number;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** One pass. It takes no input and may run twice. */
  readonly run: (signal: AbortSignal) => Promise<void>;
}

/**
 * A reconciler's engine: one pass at a time, at once when hinted, on a slow tick otherwise, with back-off after a
 * failure. A pass caused by one hint runs under the request id of that hint; a tick gets a new id.
 */
export class ReconcileLoop {
  readonly #options: LoopOptions;
  readonly #clock: Clock;
  readonly #abort = new AbortController();
  #hinted = false;
  #ended = false;
  #cause: RequestId | undefined;
  #wake: (() => void) | undefined;
  #stopped: Promise<void> | undefined;
  #waiters: Array<() => void> = [];

  constructor(options: LoopOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  get name(): string {
    return this.#options.name;
  }

  start(): void {
    this.#stopped ??= this.#drive();
  }

  /** Something changed: run a pass soon. Cheap; hints during a pass cause one more pass. */
  hint(cause?: RequestId): void {
    if (!this.#hinted) this.#cause = cause;
    else if (this.#cause !== cause) this.#cause = undefined;
    this.#hinted = true;
    this.#wake?.();
  }

  /** Hints, and resolves when a pass that began afterwards has ended, or the loop has. For tests and orderly shutdown. */
  settle(): Promise<void> {
    if (this.#ended) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
      this.hint();
    });
  }

  /** Lets the running pass end, then stops. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#wake?.();
    await this.#stopped;
  }

  async #drive(): Promise<void> {
    const signal = this.#abort.signal;
    let failures = 0;
    while (!signal.aborted) {
      const cause = this.#cause;
      const waiters = this.#waiters;
      this.#hinted = false;
      this.#cause = undefined;
      this.#waiters = [];
      const begun = this.#clock.monotonic();
      const failedBefore = failures;
      await runWithRequest({ requestId: cause ?? newRequestId() }, async () => {
        try {
          await this.#options.run(signal);
          failures = 0;
        } catch (error) {
          failures += 1;
          if (!signal.aborted)
            this.#options.logger.error('reconciler pass failed', { loop: this.name, failures, error });
        }
      });
      const ms = this.#clock.monotonic() - begun;
      observations.loopPass.tell({ loop: this.name, failed: failures > failedBefore, ms });
      for (const done of waiters) done();
      if (signal.aborted) break;
      if (failures > 0)
        await this.#sleep(backoffMs(failures - 1, { initialMs: 50, maxMs: this.#options.tickMs }), false);
      else if (!this.#hinted) await this.#sleep(this.#options.tickMs, true);
    }
    this.#ended = true;
    for (const done of this.#waiters) done();
  }

  #sleep(ms: number, wakeOnHint: boolean): Promise<void> {
    const woken = deferred();
    const cancel = this.#clock.setTimer(ms, woken.resolve);
    const wake = (): void => {
      if (wakeOnHint || this.#abort.signal.aborted) woken.resolve();
    };
    this.#wake = wake;
    if (this.#abort.signal.aborted) woken.resolve();
    return woken.promise.finally(() => {
      cancel();
      this.#wake = undefined;
    });
  }
}
