import type { RequestId } from '@backend.ai/core';

/** Payloads by event type. Payloads are plain JSON: what cannot be written as JSON does not arrive. */
export type EventMap = Record<string, unknown>;

export interface BusEvent<Type extends string = string, Payload = unknown> {
  readonly id: string;
  readonly type: Type;
  readonly payload: Payload;
  /** Id of the request that caused the event; handlers run inside it. */
  readonly requestId: RequestId;
  /** Name of the process that published. */
  readonly source: string;
  /** ISO 8601, UTC. */
  readonly at: string;
}

export type EventOf<Events extends EventMap, Type extends keyof Events & string> = {
  [T in Type]: BusEvent<T, Events[T]>;
}[Type];

export interface DeadLetter {
  readonly group: string;
  readonly event: BusEvent;
  readonly tries: number;
  /** Message of the last failure. */
  readonly failure: string;
}

/**
 * Carries facts between services, at least once. An event is a hint: nothing may depend on one arriving, because
 * reconcilers find out anyway.
 */
export interface EventBus<Events extends EventMap = EventMap> {
  /**
   * Resolves when the bus has the event, before anybody handled it. It carries the present request id.
   * @throws AppError `shutting-down` after `close`
   */
  publish<Type extends keyof Events & string>(type: Type, payload: Events[Type]): Promise<EventOf<Events, Type>>;

  /**
   * Anycast: of all consumers of a group one gets each event; each group gets all events of the types it consumes, from
   * the moment it first did, also those published while it had no consumer. A handler that resolves acknowledges. After
   * a failure the event is delivered again, later and perhaps out of order; after the last try it is a dead letter.
   * One consumer handles one event at a time; events of one type come in order of publication, repeated ones excepted.
   * Consumers of one group name the same types. The returned function ends the consumer when its handler is done.
   */
  consume<Type extends keyof Events & string>(
    group: string,
    types: readonly Type[],
    handler: (event: EventOf<Events, Type>) => Promise<void>,
  ): () => Promise<void>;

  /** Broadcast: every listener gets every event of the types once, without repetition. Returns how to stop. */
  listen<Type extends keyof Events & string>(
    types: readonly Type[],
    handler: (event: EventOf<Events, Type>) => void | Promise<void>,
  ): () => void;

  /** The latest events that a group gave up, oldest first. */
  deadLetters(): Promise<readonly DeadLetter[]>;

  /** Takes no more events, lets running handlers end. */
  close(): Promise<void>;
}
