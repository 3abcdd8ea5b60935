import { backoffMs, type Clock } from '@backend.ai/core';
import { type Logger, runWithRequest } from '@backend.ai/telemetry';
import type { BusEvent, DeadLetter } from '../event-bus.ts';
import { Queue } from './queue.ts';

export interface DeliveryRules {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Deliveries of one event to one group before it is given up. */
  readonly maxTries: number;
  readonly retry: { readonly initialMs: number; readonly maxMs: number };
  /** Events that may wait in a group; beyond, the oldest is dropped. */
  readonly maxBacklog: number;
  readonly onDeadLetter: (letter: DeadLetter) => void;
}

type Handler = (event: BusEvent) => Promise<void>;

interface Delivery {
  readonly event: BusEvent;
  /** Failed ones so far. */
  readonly tries: number;
}

/** Handlers that answer at once would otherwise keep timers and sockets waiting for as long as the queue lasts. */
const eventsPerTurn = 256;

interface Member {
  readonly handler: Handler;
  active: boolean;
  running: Promise<void> | undefined;
}

/** One group of the in-process bus: a queue, and consumers that take from it. */
export class ConsumerGroup {
  readonly name: string;
  readonly #types = new Set<string>();
  readonly #rules: DeliveryRules;
  readonly #queue = new Queue<Delivery>();
  readonly #members = new Set<Member>();
  readonly #retries = new Set<() => void>();

  constructor(name: string, rules: DeliveryRules) {
    this.name = name;
    this.#rules = rules;
  }

  accept(types: readonly string[]): void {
    for (const type of types) this.#types.add(type);
  }

  offer(event: BusEvent): void {
    if (this.#types.has(event.type)) this.#enqueue({ event, tries: 0 });
  }

  join(handler: Handler): () => Promise<void> {
    const member: Member = { handler, active: true, running: undefined };
    this.#members.add(member);
    this.#wake();
    return async () => {
      member.active = false;
      this.#members.delete(member);
      await member.running;
    };
  }

  async close(): Promise<void> {
    for (const cancel of this.#retries) cancel();
    this.#retries.clear();
    const members = [...this.#members];
    this.#members.clear();
    for (const member of members) member.active = false;
    await Promise.all(members.map((member) => member.running));
  }

  #enqueue(delivery: Delivery): void {
    if (this.#queue.length >= this.#rules.maxBacklog) {
      const dropped = this.#queue.shift();
      this.#rules.logger.error('event dropped: nobody consumes', { group: this.name, event: dropped?.event });
    }
    this.#queue.push(delivery);
    this.#wake();
  }

  #wake(): void {
    for (const member of this.#members) {
      if (member.running) continue;
      member.running = this.#work(member);
      return;
    }
  }

  async #work(member: Member): Promise<void> {
    // Not in the publisher's turn: it must not wait for a handler's synchronous part.
    await Promise.resolve();
    for (let handled = 1; member.active; handled++) {
      const delivery = this.#queue.shift();
      if (!delivery) break;
      // Another idle consumer helps with the rest.
      if (this.#queue.length > 0 && this.#members.size > 1) this.#wake();
      const { event, tries } = delivery;
      try {
        await runWithRequest({ requestId: event.requestId }, () => member.handler(event));
      } catch (error) {
        runWithRequest({ requestId: event.requestId }, () => this.#failed(event, tries + 1, error));
      }
      if (handled % eventsPerTurn === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    member.running = undefined;
    if (this.#queue.length > 0) this.#wake();
  }

  #failed(event: BusEvent, tries: number, error: unknown): void {
    const { clock, logger, maxTries, retry, onDeadLetter } = this.#rules;
    const fields = { group: this.name, event_id: event.id, event_type: event.type, tries, error };
    if (tries >= maxTries) {
      logger.error('event given up', fields);
      const failure = error instanceof Error ? error.message : String(error);
      onDeadLetter({ group: this.name, event, tries, failure });
      return;
    }
    logger.warn('event handler failed, delivering again', fields);
    const cancel = clock.setTimer(backoffMs(tries - 1, retry), () => {
      this.#retries.delete(cancel);
      this.#enqueue({ event, tries });
    });
    this.#retries.add(cancel);
  }
}
