import { backoffMs, type Clock, nextTurn } from '@backend.ai/core';
import { type Logger, runWithRequest } from '@backend.ai/telemetry';
import type { BusEvent, DeadLetter } from './event-bus.ts';
import { Queue } from './queue.ts';

/** An event on its way to the consumers of one group. */
export interface Delivery {
  readonly event: BusEvent;
  /** Failed ones so far. */
  tries: number;
}

export interface DeliveryRules<D extends Delivery = Delivery> {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Deliveries of one event to one group before it is given up. */
  readonly maxTries: number;
  readonly retry: { readonly initialMs: number; readonly maxMs: number };
  /** Asked before a handler gets it. False: it is no longer ours to handle. */
  readonly begin?: (delivery: D) => boolean | Promise<boolean>;
  readonly onHandled?: (delivery: D) => void;
  readonly onDeadLetter: (letter: DeadLetter, delivery: D) => void;
}

type Handler = (event: BusEvent) => Promise<void>;

/** Handlers that answer at once would otherwise keep timers and sockets waiting for as long as the queue lasts. */
const eventsPerTurn = 256;

interface Member {
  readonly handler: Handler;
  active: boolean;
  running: Promise<void> | undefined;
}

/** The consumers of one group in this process, and what waits for them. */
export class ConsumerGroup<D extends Delivery = Delivery> {
  readonly name: string;
  readonly #rules: DeliveryRules<D>;
  readonly #queue = new Queue<D>();
  readonly #members = new Set<Member>();
  readonly #retries = new Map<D, () => void>();

  constructor(name: string, rules: DeliveryRules<D>) {
    this.name = name;
    this.#rules = rules;
  }

  /** Deliveries that no handler has begun with, without those that wait to be repeated. */
  get waiting(): number {
    return this.#queue.length;
  }

  get members(): number {
    return this.#members.size;
  }

  offer(delivery: D): void {
    this.#queue.push(delivery);
    this.#wake();
  }

  /** Takes the oldest waiting delivery away. */
  shift(): D | undefined {
    return this.#queue.shift();
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

  /** Ends all members when their handlers are done, and gives back what was not handled. */
  async close(): Promise<D[]> {
    const members = [...this.#members];
    this.#members.clear();
    for (const member of members) member.active = false;
    await Promise.all(members.map((member) => member.running));
    return this.takeBack();
  }

  /** Everything that waits, to be handled elsewhere or later. */
  takeBack(): D[] {
    const left: D[] = [];
    for (let next = this.#queue.shift(); next; next = this.#queue.shift()) left.push(next);
    for (const [delivery, cancel] of this.#retries) {
      cancel();
      left.push(delivery);
    }
    this.#retries.clear();
    return left;
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
      const { event } = delivery;
      try {
        const begun = this.#rules.begin?.(delivery) ?? true;
        if (begun === true || (await begun)) {
          await runWithRequest({ requestId: event.requestId }, () => member.handler(event));
          this.#rules.onHandled?.(delivery);
        }
      } catch (error) {
        runWithRequest({ requestId: event.requestId }, () => this.#failed(delivery, error));
      }
      if (handled % eventsPerTurn === 0) await nextTurn();
    }
    member.running = undefined;
    if (this.#queue.length > 0) this.#wake();
  }

  #failed(delivery: D, error: unknown): void {
    const { clock, logger, maxTries, retry, onDeadLetter } = this.#rules;
    const { event } = delivery;
    delivery.tries += 1;
    const { tries } = delivery;
    const fields = { group: this.name, event_id: event.id, event_type: event.type, tries, error };
    if (tries >= maxTries) {
      logger.error('event given up', fields);
      const failure = error instanceof Error ? error.message : String(error);
      onDeadLetter({ group: this.name, event, tries, failure }, delivery);
      return;
    }
    logger.warn('event handler failed, delivering again', fields);
    const cancel = clock.setTimer(backoffMs(tries - 1, retry), () => {
      this.#retries.delete(delivery);
      this.offer(delivery);
    });
    this.#retries.set(delivery, cancel);
  }
}
