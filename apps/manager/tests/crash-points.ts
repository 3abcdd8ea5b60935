import { type AgentService, createAgentRouter, procedureMetas } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { drizzle } from 'drizzle-orm/postgres-js';

type Work = (...args: unknown[]) => Promise<unknown>;

/** The part of postgres.js that drizzle uses, on a connection or inside a transaction. */
interface Client {
  unsafe(text: string, params?: unknown[]): Statement;
  begin(...args: unknown[]): Promise<unknown>;
  savepoint(work: Work): Promise<unknown>;
}

interface Statement extends PromiseLike<unknown> {
  values(): Statement;
}

interface Life {
  ended: boolean;
}

/** Whether a manager dies with a step of its, the `nth` since steps are counted. */
type Ends = (step: string, nth: number) => boolean;

/** Beats of agents, leases and registrations of managers come again by themselves, at any time. */
const periodic = /set last_heartbeat|^\s*(insert into|update) "?(leases|peers)\b/;
const written = /\b(insert\s+into|delete\s+from|update(?=\s+"?\w+"?\s+(?:\w+\s+)?set\b))\s+"?(\w+)"?/gi;

/** All that may have an effect at an agent, as the contract has it. */
const orders: ReadonlySet<string> = new Set(
  [...procedureMetas(createAgentRouter({} as AgentService))].flatMap(([name, { type }]) =>
    type === 'mutation' ? [name] : [],
  ),
);

/**
 * Ends a manager between two steps of its work, as kill -9 would. A step is what stays when the process is gone: a
 * statement that changed something in the database, or an order that an agent carried out. Whatever else a process does
 * between two steps is gone with it, so that a crash after each step is a crash at every point.
 *
 * After its death a manager reaches neither the database nor an agent; nothing that agents tell it is acknowledged. It
 * does not hear either whether its last step was done.
 */
export class CrashPoints {
  /** What the manager has done, by name, since steps are counted and until it was killed. */
  readonly steps: string[] = [];
  #ends: Ends | undefined;
  #life: Life = { ended: false };

  /** Counts from here; the manager dies with its step number `step`, 1 being the next one. */
  killAfter(step: number): void {
    this.killAt((_step, nth) => nth === step);
  }

  /** Counts from here; the manager dies with the first step for which this is true. */
  killAt(ends: Ends): void {
    this.steps.length = 0;
    this.#ends = ends;
  }

  get killed(): boolean {
    return this.#life.ended;
  }

  /** The manager of now may live on. */
  stopCounting(): void {
    this.#ends = undefined;
  }

  /** For the next manager: the database that it gets lives as long as it does. */
  newLife(): void {
    this.#life = { ended: false };
    this.stopCounting();
  }

  /** The way of the next manager to the database. */
  database(db: Database): Database {
    const { $client } = db as Database & { $client: Client };
    return drizzle(this.#guard($client, this.#life, false) as never) as unknown as Database;
  }

  /** The way of managers to an agent. */
  agent(service: AgentService): AgentService {
    return new Proxy(service, {
      get: (target, name: keyof AgentService) => {
        const call = target[name] as Work;
        if (typeof call !== 'function') return call;
        const isOrder = orders.has(name);
        return (...args: unknown[]) =>
          this.#step(this.#life, isOrder ? () => name : undefined, () => call.apply(target, args));
      },
    });
  }

  #guard(client: Client, life: Life, inTransaction: boolean): Client {
    const unsafe = (text: string, params?: unknown[]): Statement => {
      // What a transaction does is done with its end.
      const isStep = text.search(written) >= 0 && !periodic.test(text) && !inTransaction;
      const name = isStep ? nameOf(text) : undefined;
      const statement = (asValues: boolean): Statement => ({
        values: () => statement(true),
        // biome-ignore lint/suspicious/noThenProperty: drizzle awaits what `unsafe` returns
        then: (onValue, onError) =>
          this.#step(life, name, async () => {
            const real = client.unsafe(text, params);
            return await (asValues ? real.values() : real);
          }).then(onValue, onError),
      });
      return statement(false);
    };
    const begin = (...args: unknown[]): Promise<unknown> => {
      const work = args.pop() as Work;
      const inside: Work = (scope) => work(this.#guard(scope as Client, life, true));
      return this.#step(
        life,
        () => 'a transaction',
        () => client.begin(...args, inside),
      );
    };
    const savepoint = (work: Work): Promise<unknown> =>
      client.savepoint((scope) => work(this.#guard(scope as Client, life, true)));
    const own = new Map<string | symbol, unknown>(Object.entries({ unsafe, begin, savepoint }));
    return new Proxy(client, { get: (target, key) => own.get(key) ?? Reflect.get(target, key) });
  }

  /** @param name Of a step; undefined where none is named, or none was done. */
  async #step<T>(life: Life, name: ((done: T) => string | undefined) | undefined, work: () => Promise<T>): Promise<T> {
    if (life.ended) throw gone();
    const done = await work();
    const step = name?.(done);
    if (step !== undefined && !life.ended && this.#ends) {
      this.steps.push(step);
      life.ended = this.#ends(step, this.steps.length);
    }
    if (life.ended) throw gone();
    return done;
  }
}

function gone(): AppError {
  return new AppError('connection-lost', 'This manager was killed.');
}

/**
 * A step by its name, when it changed anything: the change of a state where the answer tells it, else what it did to the
 * table that matters most.
 */
function nameOf(text: string): (done: unknown) => string | undefined {
  const writes = [...text.matchAll(written)].map(([, verb = '', table = '']) => ({ verb, table }));
  const chiefs = ['resource_allocations', 'sessions'].flatMap((chief) => writes.filter(({ table }) => table === chief));
  const { verb, table } = (chiefs[0] ?? writes[0])!;
  return (done) => {
    const rows = done as ArrayLike<{ from?: string; to?: string }> & { count?: number };
    if ((rows.count ?? rows.length) === 0) return undefined;
    const { from, to } = rows[0] ?? {};
    return from && to ? `${from} → ${to}` : `${verb.toLowerCase().replace(/\s+/, ' ')} ${table}`;
  };
}
