import { readFileSync } from 'node:fs';
import type { Clock } from '@backend.ai/core';
import { z } from 'zod';
import { unlessDiskFull } from '../../files/disk-full.ts';
import { replaceFileSync } from '../../files/replace-file.ts';

export interface KernelClockOptions {
  readonly clock: Clock;
  /** Where it is kept how long the kernel stood still: deadlines outlive the agent. */
  readonly file: string;
  /** Whether the kernel stands still now. */
  readonly paused: boolean;
}

const keptSchema = z.object({ pausedMs: z.number(), since: z.number().nullable() });

interface Timer {
  readonly at: number;
  readonly callback: () => void;
  cancel: () => void;
}

/**
 * Time as a kernel lives it: it stands still with its programs, so that time limits are of time in which these could run.
 * `now` is of no calendar, but goes on where it was under the next agent.
 */
export class KernelClock implements Clock {
  readonly #options: KernelClockOptions;
  readonly #timers = new Set<Timer>();
  /** For how long it stood still before the present pause. */
  #pausedMs: number;
  /** When the present pause began, by the wall clock. */
  #since: number | null;

  constructor(options: KernelClockOptions) {
    this.#options = options;
    const { pausedMs, since } = keptIn(options.file);
    const now = options.clock.now();
    // An agent that died between the pause and its word of it, either way.
    this.#since = options.paused ? (since ?? now) : null;
    this.#pausedMs = !options.paused && since !== null ? pausedMs + (now - since) : pausedMs;
    // Concluded once: a later agent would count the time until its own start.
    if (this.#since !== since) this.#save();
  }

  now(): number {
    return (this.#since ?? this.#options.clock.now()) - this.#pausedMs;
  }

  monotonic(): number {
    return this.#options.clock.monotonic();
  }

  setTimer(ms: number, callback: () => void): () => void {
    const timer: Timer = { at: this.now() + ms, callback, cancel: () => {} };
    this.#timers.add(timer);
    this.#arm(timer);
    return () => {
      timer.cancel();
      this.#timers.delete(timer);
    };
  }

  /** The kernel stands still, or goes on. */
  hold(still: boolean): void {
    const { clock } = this.#options;
    if (still === (this.#since !== null)) return;
    for (const timer of this.#timers) timer.cancel();
    if (this.#since === null) this.#since = clock.now();
    else {
      this.#pausedMs += clock.now() - this.#since;
      this.#since = null;
    }
    for (const timer of this.#timers) this.#arm(timer);
    this.#save();
  }

  #save(): void {
    // This agent knows; only one that is started meanwhile counts the pause as time.
    unlessDiskFull(() =>
      replaceFileSync(this.#options.file, JSON.stringify({ pausedMs: this.#pausedMs, since: this.#since })),
    );
  }

  #arm(timer: Timer): void {
    if (this.#since !== null) return;
    timer.cancel = this.#options.clock.setTimer(Math.max(0, timer.at - this.now()), () => {
      this.#timers.delete(timer);
      timer.callback();
    });
  }
}

/** Without a file it never stood still. */
function keptIn(file: string): z.infer<typeof keptSchema> {
  try {
    return keptSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return { pausedMs: 0, since: null };
  }
}
