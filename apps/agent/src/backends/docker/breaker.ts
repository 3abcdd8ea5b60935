import { AppError, type Clock } from '@backend.ai/core';

/** Calls in a row that were not answered, after which the engine counts as hung. */
export const hungAfter = 2;
/** Then nobody waits for it; after this long one call tries again. */
const pauseMs = 5_000;

/** Keeps calls from queueing up before an engine that hangs: each would wait for its whole deadline. */
export class Breaker {
  readonly #clock: Clock;
  #unanswered = 0;
  #closedUntil = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isOpen(): boolean {
    return this.#unanswered >= hungAfter && this.#clock.monotonic() < this.#closedUntil;
  }

  /** @throws AppError `engine-unavailable` */
  check(): void {
    if (this.isOpen) throw new AppError('engine-unavailable', 'The container engine does not answer.');
    // Whoever comes first after the pause tries; the others go on failing until it knows.
    if (this.#unanswered >= hungAfter) this.#closedUntil = this.#clock.monotonic() + pauseMs;
  }

  answered(): void {
    this.#unanswered = 0;
  }

  unanswered(): void {
    this.#unanswered += 1;
    this.#closedUntil = this.#clock.monotonic() + pauseMs;
  }
}
