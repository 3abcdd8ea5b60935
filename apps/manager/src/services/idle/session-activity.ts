import type { LiveValues } from '@backend.ai/coordination';
import type { Clock } from '@backend.ai/core';
import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';

/** What is told may be older than the truth by this much, in milliseconds: calls follow each other quickly. */
export const activityStepMs = 5_000;
/** Of sessions that nobody looks at any more nothing is worth remembering: each look at one that runs renews this. */
const expiryMs = 7 * 86_400_000;

export interface SessionActivityOptions {
  readonly liveValues: LiveValues;
  readonly clock: Clock;
  readonly tasks: BackgroundTasks;
  readonly logger: Logger;
}

/**
 * When users last did something in a session: kept in live values, so that it is one for all managers and outlives each
 * of them. While a call or a stream goes on the session is in use. No call waits for this or fails by it.
 */
export class SessionActivity {
  readonly #options: SessionActivityOptions;
  /** When this manager last told of a session; on the monotonic clock. */
  readonly #told = new Map<string, number>();
  /** Calls and streams in progress. */
  readonly #inUse = new Map<string, number>();
  #cancelTimer: (() => void) | undefined;
  #failing = false;

  constructor(options: SessionActivityOptions) {
    this.#options = options;
  }

  /** The session is in use until the returned function is called. */
  begin(sessionId: string): () => void {
    this.#touch(sessionId);
    this.#inUse.set(sessionId, (this.#inUse.get(sessionId) ?? 0) + 1);
    this.#tellLater();
    let over = false;
    return () => {
      if (over) return;
      over = true;
      const left = (this.#inUse.get(sessionId) ?? 1) - 1;
      if (left > 0) this.#inUse.set(sessionId, left);
      else this.#inUse.delete(sessionId);
      this.#touch(sessionId);
    };
  }

  async during<T>(sessionId: string, work: () => Promise<T>): Promise<T> {
    const end = this.begin(sessionId);
    try {
      return await work();
    } finally {
      end();
    }
  }

  /** Milliseconds since the epoch; undefined: nothing is known. */
  async lastAccess(sessionId: string): Promise<number | undefined> {
    const text = await this.#options.liveValues.get(keyOf(sessionId));
    return text === null ? undefined : Number(text);
  }

  /** Counting begins now for a session of which nothing is known; what is known of others is kept on. */
  async startCounting(sessionId: string): Promise<void> {
    const { liveValues, clock } = this.#options;
    if (await liveValues.expire(keyOf(sessionId), expiryMs)) return;
    await liveValues.setIfAbsent(keyOf(sessionId), String(clock.now()), expiryMs);
  }

  /** The session has ended. */
  forget(sessionId: string): void {
    this.#inUse.delete(sessionId);
    this.#told.delete(sessionId);
    this.#write('forget activity', async () => void (await this.#options.liveValues.delete(keyOf(sessionId))));
  }

  stop(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#inUse.clear();
  }

  #touch(sessionId: string): void {
    const { clock, liveValues } = this.#options;
    const now = clock.monotonic();
    const told = this.#told.get(sessionId);
    if (told !== undefined && now - told < activityStepMs) return;
    this.#told.set(sessionId, now);
    this.#write('tell activity', () => liveValues.set(keyOf(sessionId), String(clock.now()), expiryMs));
  }

  #tellLater(): void {
    this.#cancelTimer ??= this.#options.clock.setTimer(activityStepMs, () => {
      this.#cancelTimer = undefined;
      const now = this.#options.clock.monotonic();
      for (const [sessionId, told] of this.#told) if (now - told >= activityStepMs) this.#told.delete(sessionId);
      for (const sessionId of this.#inUse.keys()) this.#touch(sessionId);
      if (this.#told.size > 0) this.#tellLater();
    });
  }

  #write(name: string, work: () => Promise<void>): void {
    this.#options.tasks.start(name, async () => {
      try {
        await work();
        this.#failing = false;
      } catch (error) {
        if (!this.#failing) this.#options.logger.warn('activity of sessions cannot be kept', { error });
        this.#failing = true;
      }
    });
  }
}

function keyOf(sessionId: string): string {
  return `session:${sessionId}:last-access`;
}
