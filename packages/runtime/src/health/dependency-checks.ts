import { type Clock, systemClock } from '@backend.ai/core';
import { checkDependencies, type Dependency, type DependencyHealth } from './dependencies.ts';

/** Those who watch ask every few seconds and give up after a few. */
const checkDeadlineMs = 2_000;
/** An answer is good for this long. */
const freshMs = 500;

/**
 * The dependencies of a service as they are now. Ports without a login ask it: however many ask, one check is under way
 * at a time, and two in a second at most.
 */
export class DependencyChecks {
  readonly #dependencies: readonly Dependency[];
  readonly #clock: Clock;
  #latest: Promise<DependencyHealth[]> | undefined;
  #freshUntil = Number.POSITIVE_INFINITY;

  constructor(dependencies: readonly Dependency[], clock: Clock = systemClock) {
    this.#dependencies = dependencies;
    this.#clock = clock;
  }

  /** Never rejects. */
  now(): Promise<DependencyHealth[]> {
    if (this.#latest === undefined || this.#clock.monotonic() > this.#freshUntil) this.#latest = this.#check();
    return this.#latest;
  }

  async #check(): Promise<DependencyHealth[]> {
    this.#freshUntil = Number.POSITIVE_INFINITY;
    const health = await checkDependencies(this.#dependencies, { deadlineMs: checkDeadlineMs, clock: this.#clock });
    this.#freshUntil = this.#clock.monotonic() + freshMs;
    return health;
  }
}
