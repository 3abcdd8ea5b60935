import type { LiveValues } from '@backend.ai/coordination';
import type { Clock } from '@backend.ai/core';
import type { BackgroundTasks } from '@backend.ai/telemetry';

/** When each of the leader's loops last came to its end, by name: ISO times. */
export type LoopEnds = Readonly<Record<string, string>>;

const key = 'manager:loop-ends';
/** Loops may run a thousand times a second; nobody reads the times that often. */
const writeEveryMs = 1_000;

/** Told by the leader, read by whoever wants to know that the scheduler is alive. Lost with the live values. */
export class LoopTimes {
  readonly #liveValues: LiveValues;
  readonly #clock: Clock;
  readonly #tasks: BackgroundTasks;
  readonly #ends = new Map<string, string>();
  #writtenAt: number | undefined;

  constructor(liveValues: LiveValues, clock: Clock, tasks: BackgroundTasks) {
    this.#liveValues = liveValues;
    this.#clock = clock;
    this.#tasks = tasks;
  }

  ended(loop: string): void {
    this.#ends.set(loop, new Date(this.#clock.now()).toISOString());
    const now = this.#clock.monotonic();
    if (this.#writtenAt !== undefined && now - this.#writtenAt < writeEveryMs) return;
    this.#writtenAt = now;
    const text = JSON.stringify(Object.fromEntries(this.#ends));
    this.#tasks.start('tell loop times', () => this.#liveValues.set(key, text));
  }
}

/** Empty when no manager has led since the live values began. */
export async function readLoopEnds(liveValues: LiveValues): Promise<LoopEnds> {
  const text = await liveValues.get(key);
  return text === null ? {} : (JSON.parse(text) as LoopEnds);
}
