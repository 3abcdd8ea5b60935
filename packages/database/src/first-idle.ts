import type { Sql } from 'postgres';

interface RawQuery extends PromiseLike<unknown> {
  values(): RawQuery;
}

/** The part of postgres.js that is needed outside of transactions. */
interface Connection {
  readonly options: { readonly parsers: object; readonly serializers: object };
  unsafe(text: string, params: unknown[], options: object): RawQuery;
  begin<T>(options: string, work: (scope: unknown) => Promise<T>): Promise<T>;
}

interface Lane {
  readonly connection: Connection;
  load: number;
}

/** Others would wait for all of it: statements line up behind other statements first. */
const loadOfTransaction = 1_000;

/**
 * A pool over clients of one connection each, in which every statement goes to the first that is idle; if none is, to the
 * one with the least to do. The pool of postgres.js goes round: with little to do each statement would find a server
 * process that has not run it for a while, whose plans are in no cache of the processor any more.
 *
 * @param clients Made with `max: 1` and the same options
 */
export function firstIdle(clients: readonly Sql[]): Sql {
  return new FirstIdle(clients as unknown as readonly Connection[]) as unknown as Sql;
}

class FirstIdle {
  readonly #lanes: readonly Lane[];
  /** drizzle installs its parsers here, and each connection looks for them in its own options. */
  readonly options: Connection['options'];

  constructor(connections: readonly Connection[]) {
    this.#lanes = connections.map((connection) => ({ connection, load: 0 }));
    const all = connections.map(({ options }) => options);
    this.options = {
      parsers: writtenToAll(all.map(({ parsers }) => parsers)),
      serializers: writtenToAll(all.map(({ serializers }) => serializers)),
    };
  }

  unsafe(text: string, params: unknown[], options: object): RawQuery {
    const lane = this.#idlest();
    return new CountedQuery(lane, lane.connection.unsafe(text, params, options));
  }

  async begin<T>(options: string, work: (scope: unknown) => Promise<T>): Promise<T> {
    const lane = this.#idlest();
    lane.load += loadOfTransaction;
    try {
      return await lane.connection.begin(options, work);
    } finally {
      lane.load -= loadOfTransaction;
    }
  }

  #idlest(): Lane {
    let best = this.#lanes[0]!;
    for (const lane of this.#lanes) if (lane.load < best.load) best = lane;
    return best;
  }
}

function writtenToAll(targets: readonly object[]): object {
  return new Proxy(targets[0]!, {
    set: (_, name, value) => targets.every((target) => Reflect.set(target, name, value)),
  });
}

/** Counts as load until the server has answered, whether somebody still waits for that or not. */
class CountedQuery implements RawQuery {
  readonly #lane: Lane;
  readonly #query: RawQuery;

  constructor(lane: Lane, query: RawQuery) {
    this.#lane = lane;
    this.#query = query;
  }

  values(): this {
    this.#query.values();
    return this;
  }

  // biome-ignore lint/suspicious/noThenProperty: queries start when they are awaited
  then<A = unknown, B = never>(
    onValue?: ((value: unknown) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): PromiseLike<A | B> {
    const lane = this.#lane;
    lane.load += 1;
    const settled = (): void => {
      lane.load -= 1;
    };
    this.#query.then(settled, settled);
    return this.#query.then(onValue, onError);
  }
}
