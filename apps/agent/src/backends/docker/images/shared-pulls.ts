import type { PullProgress } from '@backend.ai/contract';
import { AppError, type Clock } from '@backend.ai/core';
import type { ImageEngine, RegistryCredentials } from './image-engine.ts';

export interface SharedPullsOptions {
  readonly engine: Pick<ImageEngine, 'pull'>;
  readonly clock: Clock;
  /** A fetch that says nothing new for so long has failed, in milliseconds. */
  readonly stallMs: number;
}

export interface PullWish {
  /** Of the image that is fetched. */
  readonly name: string;
  readonly credentials: RegistryCredentials | undefined;
}

interface Pull {
  readonly name: string;
  readonly done: Promise<void>;
  readonly abort: AbortController;
  waiting: number;
  progress: PullProgress;
}

/** One fetch of each image at a time, whoever wants it. It ends when nobody wants it any more. */
export class SharedPulls {
  readonly #options: SharedPullsOptions;
  readonly #pulls = new Map<string, Pull>();

  constructor(options: SharedPullsOptions) {
    this.#options = options;
  }

  /** Undefined: no image of this name is being fetched. */
  progress(name: string): PullProgress | undefined {
    for (const pull of this.#pulls.values()) if (pull.name === name) return pull.progress;
    return undefined;
  }

  /**
   * Begins to fetch, or waits with those who do. Leaving by the signal leaves the others alone.
   * @throws AppError `image-pull-denied`, `image-not-found`, `image-pull-failed`, `cancelled`
   */
  async join(reference: string, wish: PullWish, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw cancelled();
    const pull = this.#pulls.get(reference) ?? this.#begin(reference, wish);
    pull.waiting += 1;
    let leave = (): void => {};
    const left = new Promise<never>((_, reject) => {
      leave = () => reject(cancelled());
      signal.addEventListener('abort', leave, { once: true });
    });
    try {
      await Promise.race([pull.done, left]);
    } finally {
      signal.removeEventListener('abort', leave);
      pull.waiting -= 1;
      if (pull.waiting === 0) {
        pull.abort.abort();
        // Whoever comes next begins anew, and does not join one that is ending.
        if (this.#pulls.get(reference) === pull) this.#pulls.delete(reference);
      }
    }
  }

  #begin(reference: string, { name, credentials }: PullWish): Pull {
    const abort = new AbortController();
    const none = { currentBytes: 0, totalBytes: 0 };
    const done = this.#run(reference, credentials, abort, (progress) => {
      pull.progress = progress;
    });
    const pull: Pull = { name, done, abort, waiting: 0, progress: none };
    this.#pulls.set(reference, pull);
    const end = (): void => {
      if (this.#pulls.get(reference) === pull) this.#pulls.delete(reference);
    };
    // Everybody who waits hears of a failure; the last one may have left before it.
    pull.done.then(end, end);
    return pull;
  }

  async #run(
    reference: string,
    credentials: RegistryCredentials | undefined,
    abort: AbortController,
    tell: (progress: PullProgress) => void,
  ): Promise<void> {
    const { engine, clock, stallMs } = this.#options;
    let isStalled = false;
    let last: PullProgress | undefined;
    const watch = (): (() => void) =>
      clock.setTimer(stallMs, () => {
        isStalled = true;
        abort.abort();
      });
    let cancelTimer = watch();
    try {
      await engine.pull(reference, {
        credentials,
        signal: abort.signal,
        onProgress(progress) {
          last = progress;
          tell(progress);
          cancelTimer();
          cancelTimer = watch();
        },
      });
    } catch (cause) {
      if (!isStalled) throw cause;
      const seconds = Math.ceil(stallMs / 1000);
      throw new AppError('image-pull-failed', `Nothing came of ${reference} for ${seconds} s.`, {
        data: { image: reference, reason: 'stalled', ...(last ? { progress: last } : {}) },
        cause,
      });
    } finally {
      cancelTimer();
    }
  }
}

function cancelled(): AppError {
  return new AppError('cancelled', 'The image is not wanted any more.');
}
