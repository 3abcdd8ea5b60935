import { AppError, type Clock, newId, systemClock } from '@backend.ai/core';
import { type Logger, requireRequestId, runWithRequest } from '@backend.ai/telemetry';
import type { BusEvent, DeadLetter, EventBus, EventMap, EventOf } from '../event-bus.ts';
import { ConsumerGroup, type DeliveryRules } from './consumer-group.ts';

export interface InProcessEventBusOptions {
  /** Name of this process in events. */
  readonly source: string;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** Deliveries of one event to one group before it is given up. */
  readonly maxTries?: number;
  readonly retry?: { readonly initialMs: number; readonly maxMs: number };
  /** Events that may wait in one group. */
  readonly maxBacklog?: number;
}

interface Listener {
  readonly types: ReadonlySet<string>;
  readonly handler: (event: BusEvent) => void | Promise<void>;
}

const keptDeadLetters = 1_000;

/** The event bus of a cluster that lives in one process. Events die with it, which reconcilers make up for. */
export class InProcessEventBus<Events extends EventMap = EventMap> implements EventBus<Events> {
  readonly #source: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #rules: DeliveryRules;
  readonly #groups = new Map<string, ConsumerGroup>();
  readonly #listeners = new Set<Listener>();
  readonly #deadLetters: DeadLetter[] = [];
  #closed = false;

  constructor(options: InProcessEventBusOptions) {
    this.#source = options.source;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger;
    this.#rules = {
      clock: this.#clock,
      logger: options.logger,
      maxTries: options.maxTries ?? 5,
      retry: options.retry ?? { initialMs: 50, maxMs: 5_000 },
      maxBacklog: options.maxBacklog ?? 100_000,
      onDeadLetter: (letter) => {
        this.#deadLetters.push(letter);
        if (this.#deadLetters.length > keptDeadLetters) this.#deadLetters.shift();
      },
    };
  }

  publish<Type extends keyof Events & string>(type: Type, payload: Events[Type]): Promise<EventOf<Events, Type>> {
    if (this.#closed) return Promise.reject(new AppError('shutting-down', 'The event bus is closed.'));
    const now = this.#clock.now();
    const event: BusEvent<Type> = {
      id: newId(now),
      type,
      // A copy, as over a network: whoever changes what they published or got changes it for nobody else.
      payload: JSON.parse(JSON.stringify(payload ?? null)),
      requestId: requireRequestId(),
      source: this.#source,
      at: new Date(now).toISOString(),
    };
    for (const group of this.#groups.values()) group.offer(event);
    for (const listener of this.#listeners) if (listener.types.has(type)) this.#tell(listener, event);
    return Promise.resolve(event as EventOf<Events, Type>);
  }

  consume<Type extends keyof Events & string>(
    group: string,
    types: readonly Type[],
    handler: (event: EventOf<Events, Type>) => Promise<void>,
  ): () => Promise<void> {
    let target = this.#groups.get(group);
    if (!target) {
      target = new ConsumerGroup(group, this.#rules);
      this.#groups.set(group, target);
    }
    target.accept(types);
    return target.join(handler as (event: BusEvent) => Promise<void>);
  }

  listen<Type extends keyof Events & string>(
    types: readonly Type[],
    handler: (event: EventOf<Events, Type>) => void | Promise<void>,
  ): () => void {
    const listener: Listener = { types: new Set(types), handler: handler as Listener['handler'] };
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  deadLetters(): Promise<readonly DeadLetter[]> {
    return Promise.resolve([...this.#deadLetters]);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#listeners.clear();
    await Promise.all([...this.#groups.values()].map((group) => group.close()));
  }

  #tell(listener: Listener, event: BusEvent): void {
    runWithRequest({ requestId: event.requestId }, () => {
      Promise.resolve()
        .then(() => (this.#listeners.has(listener) ? listener.handler(event) : undefined))
        .catch((error: unknown) => {
          this.#logger.error('event listener failed', { event_id: event.id, event_type: event.type, error });
        });
    });
  }
}
