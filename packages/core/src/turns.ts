import { type Deferred, deferred } from './deferred.ts';
import { AppError } from './errors.ts';

/** Who waits for one: `later` comes when nobody waits who is `next`. */
export type TurnRank = 'next' | 'later';

/** Work of which only so many pieces are done at a time. The others wait, in the order in which they came. */
export class Turns {
  #free: number;
  readonly #waiting: Readonly<Record<TurnRank, Set<Deferred<void>>>> = { next: new Set(), later: new Set() };

  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  /** Whether nobody who came now would have to wait. */
  get isFree(): boolean {
    return this.#free > 0;
  }

  /**
   * Resolves when a turn has come. The answer ends it; only its first call counts.
   * @throws AppError `cancelled` when the signal aborts before
   */
  async take(signal: AbortSignal, rank: TurnRank = 'next'): Promise<() => void> {
    if (signal.aborted) throw cancelled();
    if (this.#free > 0) this.#free -= 1;
    else await this.#wait(signal, this.#waiting[rank]);
    let ended = false;
    return () => {
      if (!ended) this.#pass();
      ended = true;
    };
  }

  async #wait(signal: AbortSignal, queue: Set<Deferred<void>>): Promise<void> {
    const mine = deferred();
    const leave = (): void => {
      // Not if it has been given the turn.
      if (queue.delete(mine)) mine.reject(cancelled());
    };
    queue.add(mine);
    signal.addEventListener('abort', leave, { once: true });
    try {
      await mine.promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  #pass(): void {
    const { next, later } = this.#waiting;
    const queue = next.size > 0 ? next : later;
    const [first] = queue;
    if (!first) this.#free += 1;
    else {
      queue.delete(first);
      first.resolve();
    }
  }
}

function cancelled(): AppError {
  return new AppError('cancelled', 'The work was cancelled before its turn came.');
}
