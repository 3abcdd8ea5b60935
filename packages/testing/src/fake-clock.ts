import type { Clock } from '@backend.ai/core';

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
}

/** Time that stands still until a test moves it. */
export class FakeClock implements Clock {
  #elapsedMs = 0;
  readonly #startMs: number;
  #order = 0;
  readonly #timers = new Set<Timer>();

  /** @param startMs Milliseconds since the epoch at which time stands. */
  constructor(startMs: number = Date.UTC(2030, 0, 1)) {
    this.#startMs = startMs;
  }

  now(): number {
    return this.#startMs + this.#elapsedMs;
  }

  monotonic(): number {
    return this.#elapsedMs;
  }

  setTimer(ms: number, callback: () => void): () => void {
    const timer = { at: this.#elapsedMs + Math.max(0, ms), order: this.#order++, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** How many timers wait: zero after everything was stopped. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  /**
   * Moves time on. Timers run in the order of their times, at their times, also those set meanwhile; after each, the
   * promises it settled get to run. Work that awaits real I/O is not waited for: use `waitFor`.
   */
  async advance(ms: number): Promise<void> {
    const target = this.#elapsedMs + ms;
    await flushPromises();
    for (let next = this.#nextUntil(target); next; next = this.#nextUntil(target)) {
      this.#timers.delete(next);
      this.#elapsedMs = Math.max(this.#elapsedMs, next.at);
      next.callback();
      await flushPromises();
    }
    this.#elapsedMs = target;
  }

  #nextUntil(target: number): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.at > target) continue;
      if (!first || timer.at < first.at || (timer.at === first.at && timer.order < first.order)) first = timer;
    }
    return first;
  }
}

/** `setImmediate` runs after all promise callbacks that are due. */
function flushPromises(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
