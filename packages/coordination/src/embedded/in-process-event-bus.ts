import { type Clock, systemClock } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { ConsumerGroup, type DeliveryRules } from '../consumer-group.ts';
import { copyJson } from '../copy-json.ts';
import type { BusEvent, DeadLetter, EventBus, EventMap, EventOf } from '../event-bus.ts';
import { busClosed, eventStamp, requireSameTypes } from '../event-stamp.ts';
import { Listeners } from '../listeners.ts';

export interface InProcessEventBusOptions {
  /** Name of this process in events. */
  readonly source: string;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** Deliveries of one event to one group before it is given up. */
  readonly maxTries?: number;
  readonly retry?: { readonly initialMs: number; readonly maxMs: number };
  /** Events that may wait in one group; beyond, the oldest is dropped. */
  readonly maxBacklog?: number;
}

interface Group {
  readonly types: readonly string[];
  readonly consumers: ConsumerGroup;
}

const keptDeadLetters = 1_000;

/** The event bus of a cluster that lives in one process. Events die with it, which reconcilers make up for. */
export class InProcessEventBus<Events extends EventMap = EventMap> implements EventBus<Events> {
  readonly #logger: Logger;
  readonly #stamp: (type: string, payload: unknown) => BusEvent;
  readonly #rules: DeliveryRules;
  readonly #maxBacklog: number;
  readonly #groups = new Map<string, Group>();
  readonly #listeners: Listeners;
  readonly #deadLetters: DeadLetter[] = [];
  #closed = false;

  constructor(options: InProcessEventBusOptions) {
    const { logger, clock = systemClock } = options;
    this.#logger = logger;
    this.#stamp = eventStamp(options.source, clock);
    this.#listeners = new Listeners(logger);
    this.#maxBacklog = options.maxBacklog ?? 100_000;
    this.#rules = {
      clock,
      logger,
      maxTries: options.maxTries ?? 5,
      retry: options.retry ?? { initialMs: 50, maxMs: 5_000 },
      onDeadLetter: (letter) => {
        this.#deadLetters.push(letter);
        if (this.#deadLetters.length > keptDeadLetters) this.#deadLetters.shift();
      },
    };
  }

  async publish<Type extends keyof Events & string>(type: Type, payload: Events[Type]): Promise<EventOf<Events, Type>> {
    if (this.#closed) throw busClosed();
    // A copy, as over a network: changing what one published changes it for nobody else.
    const event = this.#stamp(type, copyJson(payload));
    for (const { types, consumers } of this.#groups.values()) {
      if (types.includes(type)) this.#offer(consumers, event);
    }
    this.#listeners.tell(event);
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
      joined = { types, consumers: new ConsumerGroup(group, this.#rules) };
      this.#groups.set(group, joined);
    }
    return joined.consumers.join(handler as (event: BusEvent) => Promise<void>);
  }

  listen<Type extends keyof Events & string>(
    types: readonly Type[],
    handler: (event: EventOf<Events, Type>) => void | Promise<void>,
  ): () => void {
    return this.#listeners.add(types, handler as (event: BusEvent) => void | Promise<void>);
  }

  deadLetters(): Promise<readonly DeadLetter[]> {
    return Promise.resolve([...this.#deadLetters]);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const groups = [...this.#groups.values()].map(({ consumers }) => consumers.close());
    await Promise.all([this.#listeners.close(), ...groups]);
  }

  #offer(consumers: ConsumerGroup, event: BusEvent): void {
    if (consumers.waiting >= this.#maxBacklog) {
      const dropped = consumers.shift();
      this.#logger.error('event dropped: nobody consumes', { group: consumers.name, event: dropped?.event });
    }
    consumers.offer({ event, tries: 0 });
  }
}
