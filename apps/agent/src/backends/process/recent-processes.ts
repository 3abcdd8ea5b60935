import type { Clock } from '@backend.ai/core';
import { ProcessTable } from '../../resources/processes.ts';

/** Looking through all of /proc once serves every kernel that is measured in the same moment. */
const freshMs = 1_000;

export class RecentProcesses {
  readonly #clock: Clock;
  #table: ProcessTable | undefined;
  #readAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** At most a second old. */
  get(): ProcessTable {
    const now = this.#clock.monotonic();
    if (!this.#table || now - this.#readAt > freshMs) {
      this.#table = new ProcessTable();
      this.#readAt = now;
    }
    return this.#table;
  }
}
