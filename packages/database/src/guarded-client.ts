import { AppError, backoffMs, delay, systemClock } from '@backend.ai/core';
import type { Sql } from 'postgres';
import { connectionFailure } from './connection-failures.ts';
import { lostToAnother, sqlStateOf, sqlStates, withoutValues } from './database-errors.ts';
import { HotStatements } from './hot-statements.ts';

export interface Deadlines {
  /** For one statement, waiting for the connection included, in milliseconds. */
  readonly statementMs: number;
  /** For one transaction from its call to its commit, in milliseconds. */
  readonly transactionMs: number;
}

export const defaultDeadlines: Deadlines = { statementMs: 10_000, transactionMs: 30_000 };
/** A table of millions of rows may be rewritten, and another process may do so first. */
export const migrationDeadlines: Deadlines = { statementMs: 3_600_000, transactionMs: 3_600_000 };

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

/** Pause before a statement is repeated that others got in the way of. */
const conflictPause = { initialMs: 1, maxMs: 50 };

/**
 * A postgres.js client for drizzle on which every call ends in time: neither a parameter that cannot be written, nor a
 * lost answer, nor a transaction that somebody forgot leaves a promise pending. A passed deadline is the AppError
 * `deadline-exceeded`: the statement may still be carried out; a transaction is rolled back unless its commit was on
 * the way. Deadlines use real time also in simulations, because the database does.
 *
 * A statement outside of a transaction that lost against another one (a deadlock, or a row that changed after its
 * snapshot, see `openPostgres`) left nothing behind and is repeated until its deadline. Transactions read what is
 * committed before each of their statements, and lock what they decide on; `repeatedTransaction` repeats those that can be.
 *
 * What fails does not tell the values that it was about: neither PostgreSQL's words nor drizzle's `Failed query`.
 */
export function guardClient(client: Sql, deadlines: Deadlines): Sql {
  return new GuardedClient(client as unknown as RawClient, deadlines, new HotStatements()) as unknown as Sql;
}

class GuardedClient {
  readonly #raw: RawClient;
  readonly #deadlines: Deadlines;
  readonly #hot: HotStatements;
  readonly #inTransaction: boolean;
  #ended = false;

  constructor(raw: RawClient, deadlines: Deadlines, hot: HotStatements, inTransaction = false) {
    this.#raw = raw;
    this.#deadlines = deadlines;
    this.#hot = hot;
    this.#inTransaction = inTransaction;
  }

  /** drizzle installs its parsers here. */
  get options(): unknown {
    return this.#raw.options;
  }

  unsafe(text: string, params: unknown[] = []): GuardedQuery {
    return new GuardedQuery(
      () => {
        if (this.#ended) throw new AppError('internal', 'A transaction was used after its end.', { detail: text });
        const values = params.map((value, index) => writable(value, index, text));
        // Several statements at once (migrations) are taken only by the protocol for what is not prepared.
        const prepare = (params.length > 0 || !text.includes(';')) && this.#hot.shouldPrepare(text);
        return this.#raw.unsafe(text, values, { prepare, simple: params.length === 0 && !prepare });
      },
      params,
      this.#deadlines.statementMs,
      !this.#inTransaction,
    );
  }

  begin<T>(optionsOrWork: string | Callback<T>, work?: Callback<T>): Promise<T> {
    const options = typeof optionsOrWork === 'string' ? optionsOrWork : 'isolation level read committed';
    const body = typeof optionsOrWork === 'string' ? work! : optionsOrWork;
    const deadline = startDeadline(this.#deadlines.transactionMs, 'A database transaction did not end in time.');
    const whole = this.#raw.begin(options, (scope) => {
      const guarded = new GuardedClient(scope, this.#deadlines, this.#hot, true);
      return deadline.race(() => body(guarded as unknown as Sql)).finally(() => guarded.#end());
    });
    return deadline
      .race(() => whole)
      .catch((error: unknown) => {
        throw withoutValues(connectionFailure(error) ?? error);
      })
      .finally(deadline.cancel);
  }

  savepoint<T>(work: Callback<T>): Promise<T> {
    return this.#raw.savepoint((scope) => {
      const guarded = new GuardedClient(scope, this.#deadlines, this.#hot, true);
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
  readonly #params: unknown[];
  readonly #deadlineMs: number;
  readonly #repeatable: boolean;
  #asValues = false;
  #running: Promise<unknown> | undefined;

  constructor(start: () => RawQuery, params: unknown[], deadlineMs: number, repeatable: boolean) {
    this.#start = start;
    this.#params = params;
    this.#deadlineMs = deadlineMs;
    this.#repeatable = repeatable;
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
    const deadline = startDeadline(this.#deadlineMs, 'A database statement was not answered in time.');
    try {
      for (let lost = 0; ; lost++) {
        try {
          return await deadline.race(() => this.#once());
        } catch (error) {
          if (!this.#repeatable || !leftNothing(error)) throw connectionFailure(error) ?? error;
        }
        await deadline.race(() => delay(systemClock, backoffMs(lost, conflictPause)));
      }
    } catch (error) {
      // drizzle puts into its error what it then finds in this array, which it made for this one call.
      this.#params.fill('…');
      throw withoutValues(error);
    } finally {
      deadline.cancel();
    }
  }

  #once(): PromiseLike<unknown> {
    const query = this.#start();
    return this.#asValues ? query.values() : query;
  }
}

/**
 * Ends of connections are among them: postgres.js fails statements that it has sent with CONNECTION_CLOSED, and keeps
 * the server's last word for the first statement of the next connection, which it then does not send.
 */
function leftNothing(thrown: unknown): boolean {
  return lostToAnother(thrown) || connectionEnds.has(sqlStateOf(thrown));
}

const connectionEnds: ReadonlySet<string | undefined> = new Set([sqlStates.adminShutdown, sqlStates.crashShutdown]);

interface RunningDeadline {
  /** The outcome of `work`, or `deadline-exceeded`; `work` does not start when the time is already over. */
  race<T>(work: () => PromiseLike<T>): Promise<T>;
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
        // No promise more than these: every statement comes by here.
        work().then(
          (value) => {
            rejects.delete(reject);
            resolve(value);
          },
          (error: unknown) => {
            rejects.delete(reject);
            reject(error);
          },
        );
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
