import type { LiveValues } from '@backend.ai/coordination';
import type { Clock } from '@backend.ai/core';

/** Calls that are counted together; they arrived while the count before them was under way. */
interface Batch {
  calls: number;
  readonly counted: Promise<number>;
}

/** What was taken from the window, and not used of it yet. */
interface Reserve {
  /** Of the window, up to which it is taken. */
  readonly end: number;
  unused: number;
  /** On the monotonic clock: with the window. */
  readonly until: number;
}

/** Of a limit, for each manager: what may be taken ahead, and is lost when nobody calls this manager any more. */
const reservedPart = 1 / 200;
const mostReserved = 64;
const maxKept = 10_000;

/**
 * Counts the calls of each access key in a window that all managers share, before they are let in. Each call gets a
 * count of its own, so that never more than the limit have one within it. There is one exchange at a time per key, and
 * what arrives meanwhile shares the next; each takes some counts ahead, so that most calls need none.
 */
export class CallCounter {
  readonly #live: LiveValues;
  readonly #clock: Clock;
  readonly #windowMs: number;
  readonly #running = new Map<string, Promise<unknown>>();
  readonly #waiting = new Map<string, Batch>();
  readonly #reserves = new Map<string, Reserve>();

  constructor(live: LiveValues, clock: Clock, windowMs: number) {
    this.#live = live;
    this.#clock = clock;
    this.#windowMs = windowMs;
  }

  /**
   * The highest count of these calls in the window. When counting fails, so does everything that was counted together.
   * @param limit of the key; some of it is taken ahead
   */
  async count(accessKey: string, calls: number, limit: number): Promise<number> {
    const reserve = this.#reserves.get(accessKey);
    if (reserve && calls <= reserve.unused && this.#clock.monotonic() < reserve.until) {
      reserve.unused -= calls;
      return reserve.end - reserve.unused;
    }
    let batch = this.#waiting.get(accessKey);
    if (!batch) {
      batch = { calls: 0, counted: this.#afterRunning(accessKey, limit) };
      this.#waiting.set(accessKey, batch);
    }
    batch.calls += calls;
    const upToThese = batch.calls;
    return (await batch.counted) - (batch.calls - upToThese);
  }

  async #afterRunning(accessKey: string, limit: number): Promise<number> {
    // Its failure is told to its own callers. Awaited in any case, so that calls of the same moment come together.
    await this.#running.get(accessKey)?.catch(() => undefined);
    const { calls } = this.#waiting.get(accessKey) as Batch;
    this.#waiting.delete(accessKey);
    const ahead = Math.min(Math.floor(limit * reservedPart), mostReserved);
    const asked = this.#clock.monotonic();
    const reserve = this.#reserves.get(accessKey);
    this.#reserves.delete(accessKey);
    const unused = reserve && asked < reserve.until ? reserve.unused : 0;
    const running = this.#live.increment(`rate:${accessKey}`, this.#windowMs, calls - unused + ahead);
    this.#running.set(accessKey, running);
    try {
      const { count: end, resetInMs } = await running;
      if (ahead > 0) this.#keep(accessKey, { end, unused: ahead, until: asked + resetInMs });
      return end - ahead;
    } finally {
      if (this.#running.get(accessKey) === running) this.#running.delete(accessKey);
    }
  }

  #keep(accessKey: string, reserve: Reserve): void {
    if (this.#reserves.size >= maxKept) this.#reserves.clear();
    this.#reserves.set(accessKey, reserve);
  }
}
