import { AppError, type Clock, systemClock } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';

export interface Part {
  readonly name: string;
  start?(): Promise<void> | void;
  /** Must be safe after a failed or missing start. */
  stop?(): Promise<void> | void;
}

export interface LifecycleOptions {
  readonly logger: Logger;
  /** All stops together get this long, in milliseconds. */
  readonly stopDeadlineMs: number;
  readonly clock?: Clock;
}

/**
 * Starts parts in the order given and stops them in reverse, all under one deadline. A failed start stops what had
 * started. A failing stop is logged and does not keep the others from stopping.
 */
export class Lifecycle {
  readonly #options: LifecycleOptions;
  readonly #clock: Clock;
  readonly #started: Part[] = [];
  #stopping: Promise<void> | undefined;

  constructor(options: LifecycleOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** @returns how long each part took, in milliseconds */
  async start(parts: readonly Part[]): Promise<Array<{ name: string; ms: number }>> {
    const timings: Array<{ name: string; ms: number }> = [];
    for (const part of parts) {
      if (this.#stopping) throw new AppError('shutting-down', 'Stopped while it was starting.');
      const begun = this.#clock.monotonic();
      this.#started.push(part);
      try {
        await part.start?.();
      } catch (error) {
        await this.stop();
        throw error;
      }
      timings.push({ name: part.name, ms: Math.round((this.#clock.monotonic() - begun) * 10) / 10 });
    }
    return timings;
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async #stopAll(): Promise<void> {
    const end = this.#clock.monotonic() + this.#options.stopDeadlineMs;
    for (const part of this.#started.reverse()) {
      const left = Math.max(1, end - this.#clock.monotonic());
      try {
        await this.#within(left, part);
      } catch (error) {
        this.#options.logger.error('part did not stop cleanly', { part: part.name, error });
      }
    }
  }

  async #within(ms: number, part: Part): Promise<void> {
    let cancel: (() => void) | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      cancel = this.#clock.setTimer(ms, () =>
        reject(new AppError('deadline-exceeded', `${part.name} did not stop in time.`)),
      );
    });
    try {
      await Promise.race([part.stop?.(), late]);
    } finally {
      cancel?.();
    }
  }
}
