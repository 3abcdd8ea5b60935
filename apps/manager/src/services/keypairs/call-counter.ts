import type { LiveValues } from '@backend.ai/coordination';

/** Calls that are counted together; they arrived while the count before them was under way. */
interface Batch {
  calls: number;
  readonly counted: Promise<number>;
}

/**
 * Counts the calls of each access key in a window that all managers share. A count is exact and comes before its call
 * is let in; there is one exchange at a time per key, and what arrives meanwhile shares the next: under load a manager
 * counts many calls with one exchange, and never twice or late.
 */
export class CallCounter {
  readonly #live: LiveValues;
  readonly #windowMs: number;
  readonly #running = new Map<string, Promise<unknown>>();
  readonly #waiting = new Map<string, Batch>();

  constructor(live: LiveValues, windowMs: number) {
    this.#live = live;
    this.#windowMs = windowMs;
  }

  /** Number of calls in the window up to these ones. When counting fails, so does everything that was counted together. */
  async count(accessKey: string, calls: number): Promise<number> {
    let batch = this.#waiting.get(accessKey);
    if (!batch) {
      batch = { calls: 0, counted: this.#afterRunning(accessKey) };
      this.#waiting.set(accessKey, batch);
    }
    batch.calls += calls;
    const upToThese = batch.calls;
    return (await batch.counted) - (batch.calls - upToThese);
  }

  async #afterRunning(accessKey: string): Promise<number> {
    // Its failure is told to its own callers. Awaited in any case, so that calls of the same moment come together.
    await this.#running.get(accessKey)?.catch(() => undefined);
    const { calls } = this.#waiting.get(accessKey) as Batch;
    this.#waiting.delete(accessKey);
    const running = this.#live.increment(`rate:${accessKey}`, this.#windowMs, calls);
    this.#running.set(accessKey, running);
    try {
      return (await running).count;
    } finally {
      if (this.#running.get(accessKey) === running) this.#running.delete(accessKey);
    }
  }
}
