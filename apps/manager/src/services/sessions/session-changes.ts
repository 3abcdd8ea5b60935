import type { EventBus } from '@backend.ai/coordination';
import { type Clock, deferred, nextTurn } from '@backend.ai/core';
import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';
import { BusinessLog, type ManagerEvents, type SessionChange } from '../../events.ts';

type ChangeListener = (change: SessionChange) => void;

/** A queue of at most one: whoever follows a session wants to know that it changed, and looks for itself. */
export interface Following {
  /** The newest state heard of, if any. */
  readonly latest: SessionChange | undefined;
  /** True at the next change after the last call; false when the signal aborts first. */
  next(signal: AbortSignal): Promise<boolean>;
  stop(): void;
}

/** A lost hint costs so much time, not the answer. */
const lookAgainMs = 5_000;

/** Whether there was news before the time is over, or the signal aborts. */
export async function heardOfChange(
  following: Following,
  clock: Clock,
  signal: AbortSignal,
  withinMs: number = lookAgainMs,
): Promise<boolean> {
  const wake = new AbortController();
  const abort = (): void => wake.abort();
  const cancel = clock.setTimer(withinMs, abort);
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  const heard = await following.next(wake.signal);
  cancel();
  signal.removeEventListener('abort', abort);
  return heard;
}

/**
 * Lets what others do at once about a change leave this process first: statements are written at the end of a turn of the
 * event loop. The answer of whoever changed it is put together meanwhile, and holds up nothing that its user waits for next.
 */
export async function afterOthers(): Promise<void> {
  await nextTurn();
  await nextTurn();
}

/**
 * Tells everybody who cares that a session changed: in this process at once, in others over the event bus. A hint
 * only; the database has the truth.
 */
export class SessionChanges {
  readonly #bus: EventBus<ManagerEvents>;
  readonly #origin: string;
  readonly #log: BusinessLog;
  readonly #tasks: BackgroundTasks;
  readonly #listeners = new Set<ChangeListener>();
  readonly #announcers = new Set<ChangeListener>();
  readonly #followers = new Map<string, Set<ChangeListener>>();
  #stopListening: (() => void) | undefined;

  constructor(bus: EventBus<ManagerEvents>, origin: string, logger: Logger, tasks: BackgroundTasks) {
    this.#bus = bus;
    this.#origin = origin;
    this.#log = new BusinessLog(logger);
    this.#tasks = tasks;
  }

  start(): void {
    this.#stopListening ??= this.#bus.listen(['session-changed'], (event) => {
      if ((event.payload as SessionChange & { origin?: string }).origin !== this.#origin) this.#deliver(event.payload);
    });
  }

  stop(): void {
    this.#stopListening?.();
    this.#stopListening = undefined;
  }

  announce(changes: readonly SessionChange[]): void {
    for (const given of changes) {
      const change = onlyChange(given);
      if (change.from === null) this.#log.sessionCreated(change);
      else if (change.from === change.to && change.to === 'PENDING') this.#log.sessionWaits(change);
      else if (change.from === change.to) this.#log.sessionTouched(change);
      else this.#log.sessionMoved(change);
      this.#deliver(change);
      for (const announcer of this.#announcers) announcer(change);
      this.#tasks.start('publish session change', async () => {
        await this.#bus.publish('session-changed', { ...change, origin: this.#origin } as SessionChange);
      });
    }
  }

  onChange(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Called with what this process changed, and not with what it hears of. */
  onAnnounced(listener: ChangeListener): void {
    this.#announcers.add(listener);
  }

  follow(sessionId: string): Following {
    let changed = deferred<boolean>();
    let latest: SessionChange | undefined;
    const listener = (change: SessionChange): void => {
      latest = change;
      changed.resolve(true);
    };
    const set = this.#followers.get(sessionId) ?? new Set();
    this.#followers.set(sessionId, set.add(listener));
    return {
      get latest() {
        return latest;
      },
      async next(signal) {
        const waiting = changed;
        const onAbort = (): void => waiting.resolve(false);
        signal.addEventListener('abort', onAbort, { once: true });
        if (signal.aborted) onAbort();
        const heard = await waiting.promise;
        signal.removeEventListener('abort', onAbort);
        if (changed === waiting) changed = deferred<boolean>();
        return heard;
      },
      stop: () => {
        set.delete(listener);
        if (set.size === 0 && this.#followers.get(sessionId) === set) this.#followers.delete(sessionId);
      },
    };
  }

  #deliver(change: SessionChange): void {
    for (const listener of [...this.#listeners]) listener(change);
    for (const listener of [...(this.#followers.get(change.sessionId) ?? [])]) listener(change);
  }
}

/** Callers may know more of a session than others should hear, such as its environment. */
function onlyChange(change: SessionChange): SessionChange {
  const { sessionId, kernelId, agentId, name, accessKey, from, to, reason, forced } = change;
  return { sessionId, kernelId, agentId, name, accessKey, from, to, reason, ...(forced ? { forced } : {}) };
}
