import { type Clock, newId, systemClock } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { copyJson } from '../copy-json.ts';
import type { BusEvent, DeadLetter, EventBus, EventMap, EventOf } from '../event-bus.ts';
import { busClosed, eventStamp, requireSameTypes } from '../event-stamp.ts';
import { Listeners } from '../listeners.ts';
import { encodeEvent } from './event-codec.ts';
import { Publisher } from './publisher.ts';
import { RedisGroup } from './redis-group.ts';
import type { RedisServer, ScriptCall } from './redis-server.ts';
import { RedisTail } from './redis-tail.ts';
import { publishScript, reclaimScript, sweepScript } from './stream-scripts.ts';

export interface RedisEventBusOptions {
  readonly server: RedisServer;
  /** Of all keys of this bus: who shares it shares the events. */
  readonly prefix: string;
  /** Name of this process in events. */
  readonly source: string;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
  /** Deliveries of one event to one group before it is given up. */
  readonly maxTries?: number | undefined;
  readonly retry?: { readonly initialMs: number; readonly maxMs: number } | undefined;
  /** After this time the events of a process that died are taken over by others. */
  readonly reclaimAfterMs?: number | undefined;
  /** Events of one type that are kept, about: for those who were away or are slow. */
  readonly maxLength?: number | undefined;
}

const keptDeadLetters = 1_000;

/**
 * The event bus of a cluster of several processes: one Redis stream for each type of event, and one consumer group on
 * those streams for each group. The server is closed by whoever opened it.
 */
export class RedisEventBus<Events extends EventMap = EventMap> implements EventBus<Events> {
  readonly #options: RedisEventBusOptions;
  readonly #clock: Clock;
  readonly #stamp: (type: string, payload: unknown) => BusEvent;
  readonly #publisher: Publisher;
  readonly #scripts: { readonly reclaim: ScriptCall; readonly sweep: ScriptCall };
  readonly #groups = new Map<string, { readonly types: readonly string[]; readonly members: RedisGroup }>();
  readonly #listeners: Listeners;
  readonly #tail: RedisTail;
  readonly #consumer: string;
  #closed = false;

  constructor(options: RedisEventBusOptions) {
    this.#options = options;
    const { server, source, logger } = options;
    this.#clock = options.clock ?? systemClock;
    this.#stamp = eventStamp(source, this.#clock);
    this.#consumer = `${source}-${newId()}`;
    this.#publisher = new Publisher(server.script('busPublish', publishScript), options.maxLength ?? 100_000);
    this.#scripts = {
      reclaim: server.script('busReclaim', reclaimScript),
      sweep: server.script('busSweep', sweepScript),
    };
    this.#listeners = new Listeners(logger);
    this.#tail = new RedisTail(server, this.#clock, logger, (event) => this.#listeners.tell(event));
  }

  async publish<Type extends keyof Events & string>(type: Type, payload: Events[Type]): Promise<EventOf<Events, Type>> {
    if (this.#closed) throw busClosed();
    const event = this.#stamp(type, copyJson(payload));
    await this.#publisher.add(this.#streamOf(type), encodeEvent(event));
    return event as EventOf<Events, Type>;
  }

  consume<Type extends keyof Events & string>(
    group: string,
    types: readonly Type[],
    handler: (event: EventOf<Events, Type>) => Promise<void>,
  ): () => Promise<void> {
    let joined = this.#groups.get(group);
    if (joined) requireSameTypes(group, joined.types, types);
    else {
      joined = { types, members: this.#group(group, types) };
      this.#groups.set(group, joined);
    }
    return joined.members.join(handler as (event: BusEvent) => Promise<void>);
  }

  listen<Type extends keyof Events & string>(
    types: readonly Type[],
    handler: (event: EventOf<Events, Type>) => void | Promise<void>,
  ): () => void {
    const stop = this.#listeners.add(types, handler as (event: BusEvent) => void | Promise<void>);
    this.#tail.follow(types.map((type) => this.#streamOf(type)));
    return stop;
  }

  async deadLetters(): Promise<readonly DeadLetter[]> {
    const found = await this.#options.server.run((client) =>
      client.xrevrange(this.#deadLetterStream, '+', '-', 'COUNT', keptDeadLetters),
    );
    return found.map(([, [, body = 'null']]) => JSON.parse(body) as DeadLetter).reverse();
  }

  async close(): Promise<void> {
    this.#closed = true;
    const groups = [...this.#groups.values()].map(({ members }) => members.close());
    await Promise.all([this.#publisher.drain(), this.#listeners.close(), this.#tail.close(), ...groups]);
  }

  get #deadLetterStream(): string {
    return `${this.#options.prefix}dead-letters`;
  }

  #streamOf(type: string): string {
    return `${this.#options.prefix}events:${type}`;
  }

  #group(group: string, types: readonly string[]): RedisGroup {
    const { server, logger, maxTries = 5, retry, reclaimAfterMs = 5_000 } = this.#options;
    return new RedisGroup({
      server,
      group,
      consumer: this.#consumer,
      types,
      streamOf: (type) => this.#streamOf(type),
      deadLetters: { stream: this.#deadLetterStream, maxLength: keptDeadLetters },
      scripts: this.#scripts,
      clock: this.#clock,
      logger,
      maxTries,
      retry: retry ?? { initialMs: 50, maxMs: 5_000 },
      reclaimAfterMs,
    });
  }
}
