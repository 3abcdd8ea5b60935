import { AppError, backoffMs, type Clock, delay, hasCode, isTerminal, parseRequestId } from '@backend.ai/core';
import type { BackgroundTasks } from '@backend.ai/telemetry';
import type { CallbackClient } from '../../clients/callback-client.ts';
import type { BusinessLog, SessionChange } from '../../events.ts';
import type { CallbackRecord, SessionRepository } from '../../repositories/sessions.ts';

export interface SessionCallbacksOptions {
  readonly sessions: Pick<SessionRepository, 'findCallback' | 'findById'>;
  readonly client: Pick<CallbackClient, 'post'>;
  readonly tasks: BackgroundTasks;
  readonly clock: Clock;
  readonly log: BusinessLog;
  /** Waits between tries, in milliseconds. */
  readonly backoff: { readonly initialMs: number; readonly maxMs: number };
}

/** The first and its repetitions. */
const maxTries = 4;
/** Sessions remembered, with or without a callback, so that a change costs a query once per session at most. */
const maxRemembered = 10_000;
/** Messages that wait or are under way. What a receiver is too slow for is dropped and logged. */
const maxWaiting = 1_000;

/** What the official callbacks call a change. */
const eventNames: Partial<Record<string, string>> = { PENDING: 'enqueued', RUNNING: 'started', ERROR: 'failure' };

/**
 * Tells the callback URL of a session of its changes of state: one message after the other, each tried a few times. The
 * manager that made a change tells of it; one that ends in between may leave some untold.
 */
export class SessionCallbacks {
  readonly #options: SessionCallbacksOptions;
  /** Null: it has no callback. */
  readonly #known = new Map<string, CallbackRecord | null>();
  readonly #queues = new Map<string, Promise<void>>();
  readonly #stopping = new AbortController();
  #waiting = 0;

  constructor(options: SessionCallbacksOptions) {
    this.#options = options;
  }

  /** A session of this process was queued: known without reading. Null: it has no callback. */
  created(sessionId: string, callback: CallbackRecord | null): void {
    this.#known.set(sessionId, callback);
    const [oldest] = this.#known.keys();
    if (this.#known.size > maxRemembered && oldest !== undefined) this.#known.delete(oldest);
  }

  /** To be called with what this process changed. */
  changed(change: SessionChange): void {
    const { sessionId, from, to } = change;
    const known = this.#known.get(sessionId);
    if (isTerminal(to)) this.#known.delete(sessionId);
    if (from === to || known === null || this.#stopping.signal.aborted) return;
    const at = new Date(this.#options.clock.now()).toISOString();
    const before = this.#queues.get(sessionId) ?? Promise.resolve();
    const after = new Promise<void>((resolve) => {
      this.#options.tasks.start('find callback', async () => {
        try {
          const callback = known ?? (await this.#find(sessionId));
          await before;
          if (callback) await this.#deliver(callback, change, at);
        } finally {
          resolve();
        }
      });
    });
    this.#queues.set(sessionId, after);
    void after.then(() => {
      if (this.#queues.get(sessionId) === after) this.#queues.delete(sessionId);
    });
  }

  /** Gives up what has not been told. */
  stop(): void {
    this.#stopping.abort();
  }

  async #find(sessionId: string): Promise<CallbackRecord | null> {
    const found = (await this.#options.sessions.findCallback(sessionId)) ?? null;
    this.created(sessionId, found);
    return found;
  }

  async #deliver(callback: CallbackRecord, change: SessionChange, at: string): Promise<void> {
    const { tasks, log } = this.#options;
    if (this.#waiting >= maxWaiting)
      return log.callbackDropped(change, new AppError('rate-limited', 'Too many callbacks wait.'));
    this.#waiting += 1;
    await new Promise<void>((resolve) => {
      tasks.start(
        'tell callback',
        async () => {
          try {
            await this.#post(callback, change, at);
          } finally {
            this.#waiting -= 1;
            resolve();
          }
        },
        parseRequestId(callback.requestId),
      );
    });
  }

  async #post(callback: CallbackRecord, change: SessionChange, at: string): Promise<void> {
    const { client, clock, log, backoff } = this.#options;
    const { signal } = this.#stopping;
    const body = JSON.stringify(await this.#message(callback, change, at));
    let failure: AppError | undefined;
    for (let nth = 0; nth < maxTries && !signal.aborted; nth++) {
      if (nth > 0) await delay(clock, backoffMs(nth - 1, backoff), signal);
      try {
        const status = await client.post(callback.url, body, { 'x-backend-request-id': callback.requestId }, signal);
        if (status >= 200 && status < 300) return log.callbackTold(change);
        failure = new AppError('server-unreachable', `The answer was ${status}.`);
        if (!mayHelp(status)) break;
      } catch (thrown) {
        failure = AppError.from(thrown);
        if (hasCode(failure, 'callback-forbidden')) break;
      }
    }
    log.callbackDropped(change, failure);
  }

  async #message(callback: CallbackRecord, change: SessionChange, at: string): Promise<Record<string, unknown>> {
    const ended = isTerminal(change.to) ? await this.#options.sessions.findById(change.sessionId) : undefined;
    return {
      type: 'session_lifecycle',
      event: eventNames[change.to] ?? change.to.toLowerCase(),
      session_id: change.sessionId,
      session_name: change.name,
      when: at,
      status: change.to,
      reason: change.reason,
      request_id: callback.requestId,
      ...(ended ? { result: ended.result } : {}),
    };
  }
}

/** Whether another try may help: the receiver is away or busy, rather than of another opinion. */
function mayHelp(status: number): boolean {
  return status >= 500 || status === 408 || status === 425 || status === 429;
}
