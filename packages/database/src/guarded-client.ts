import { AppError, systemClock } from '@backend.ai/core';
import type { Sql } from 'postgres';
import { HotStatements } from './hot-statements.ts';

export interface Deadlines {
  /** For one statement, waiting for the connection included, in milliseconds. */
  readonly statementMs: number;
  /** For one transaction from its call to its commit, in milliseconds. */
  readonly transactionMs: number;
}

export const defaultDeadlines: Deadlines = { statementMs: 10_000, transactionMs: 30_000 };

type Callback<T> = (scope: Sql) => Promise<T>;
interface RawQuery extends PromiseLike<unknown> {
  values(): RawQuery;
}
/** The part of postgres.js that drizzle uses, on a connection or inside a transaction. */
interface RawClient {
  readonly options: unknown;
  unsafe(text: string, params: unknown[], options: object): RawQuery;
  begin<T>(options: string, work: (scope: RawClient) => Promise<T>): Promise<T>;
  savepoint<T>(work: (scope: RawClient) => Promise<T>): Promise<T>;
}

/**
 * A postgres.js client for drizzle on which every call ends in time: neither a parameter that cannot be written, nor a
 * lost answer, nor a transaction that somebody forgot leaves a promise pending. A passed deadline is the AppError
 * `deadline-exceeded`: the statement may still be carried out; a transaction is rolled back unless its commit was on
 * the way. Deadlines use real time also in simulations, because the database does.
 */
export function guardClient(client: Sql, deadlines: Deadlines): Sql {
  return new GuardedClient(client as unknown as RawClient, deadlines, new HotStatements()) as unknown as Sql;
}

class GuardedClient {
  readonly #raw: RawClient;
  readonly #deadlines: Deadlines;
  readonly #hot: HotStatements;
  #ended = false;

  constructor(raw: RawClient, deadlines: Deadlines, hot: HotStatements) {
    this.#raw = raw;
    this.#deadlines = deadlines;
    this.#hot = hot;
  }

  /** drizzle installs its parsers here. */
  get options(): unknown {
    return this.#raw.options;
  }

  unsafe(text: string, params: unknown[] = []): GuardedQuery {
    return new GuardedQuery(() => {
      if (this.#ended) throw new AppError('internal', 'A transaction was used after its end.', { detail: text });
      const values = params.map((value, index) => writable(value, index, text));
      const prepare = params.length > 0 && this.#hot.shouldPrepare(text);
      // Without parameters the simple protocol is used: the only one that takes several statements (migrations).
      return this.#raw.unsafe(text, values, { prepare });
    }, this.#deadlines.statementMs);
  }

  begin<T>(optionsOrWork: string | Callback<T>, work?: Callback<T>): Promise<T> {
    const options = typeof optionsOrWork === 'string' ? optionsOrWork : '';
    const body = typeof optionsOrWork === 'string' ? work! : optionsOrWork;
    const deadline = startDeadline(this.#deadlines.transactionMs, 'A database transaction did not end in time.');
    const whole = this.#raw.begin(options, (scope) => {
      const guarded = new GuardedClient(scope, this.#deadlines, this.#hot);
      return deadline.race(() => body(guarded as unknown as Sql)).finally(() => guarded.#end());
    });
    return deadline.race(() => whole).finally(deadline.cancel);
  }

  savepoint<T>(work: Callback<T>): Promise<T> {
    return this.#raw.savepoint((scope) => {
      const guarded = new GuardedClient(scope, this.#deadlines, this.#hot);
      return work(guarded as unknown as Sql).finally(() => guarded.#end());
    });
  }

  /** Statements after this would run outside of the transaction that they were written for. */
  #end(): void {
    this.#ended = true;
  }
}

/** Starts when awaited, like the query of postgres.js that it stands for. */
class GuardedQuery implements PromiseLike<unknown> {
  readonly #start: () => RawQuery;
  readonly #deadlineMs: number;
  #asValues = false;
  #running: Promise<unknown> | undefined;

  constructor(start: () => RawQuery, deadlineMs: number) {
    this.#start = start;
    this.#deadlineMs = deadlineMs;
  }

  values(): this {
    this.#asValues = true;
    return this;
  }

  // biome-ignore lint/suspicious/noThenProperty: drizzle awaits what `unsafe` returns
  then<A = unknown, B = never>(
    onValue?: ((value: unknown) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#running ??= this.#run();
    return this.#running.then(onValue, onError);
  }

  async #run(): Promise<unknown> {
    const query = this.#start();
    const deadline = startDeadline(this.#deadlineMs, 'A database statement was not answered in time.');
    try {
      return await deadline.race(async () => await (this.#asValues ? query.values() : query));
    } finally {
      deadline.cancel();
    }
  }
}

interface RunningDeadline {
  /** The outcome of `work`, or `deadline-exceeded`; `work` does not start when the time is already over. */
  race<T>(work: () => Promise<T>): Promise<T>;
  cancel(): void;
}

function startDeadline(ms: number, message: string): RunningDeadline {
  const rejects = new Set<(reason: AppError) => void>();
  let passed: AppError | undefined;
  const cancel = systemClock.setTimer(ms, () => {
    passed = new AppError('deadline-exceeded', message, { detail: { deadlineMs: ms } });
    for (const reject of rejects) reject(passed);
  });
  return {
    race: (work) =>
      new Promise((resolve, reject) => {
        if (passed) return reject(passed);
        rejects.add(reject);
        work()
          .then(resolve, reject)
          .finally(() => rejects.delete(reject));
      }),
    cancel,
  };
}

/** Values that postgres.js writes without throwing in the middle of its queue. */
function writable(value: unknown, index: number, text: string): unknown {
  if (value === null || value instanceof Uint8Array) return value;
  if (value instanceof Date) return value.toISOString();
  if (typeof value === 'object' || typeof value === 'undefined' || typeof value === 'function') {
    throw new AppError('internal', 'A statement got a parameter that the database cannot take.', {
      detail: { parameter: index + 1, type: typeof value, text },
    });
  }
  return value;
}
