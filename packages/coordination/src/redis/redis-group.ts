import { AppError, backoffMs, type Clock, deferred, delay } from '@backend.ai/core';
import { BackgroundTasks, type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import { ConsumerGroup, type Delivery, type DeliveryRules } from '../consumer-group.ts';
import type { BusEvent, DeadLetter } from '../event-bus.ts';
import { firstBatch, nextBatch } from './batch-size.ts';
import { type BlockingConnection, blockMs, bodyField, type StreamEntry } from './blocking-connection.ts';
import { decodeEvent, foreignEvent } from './event-codec.ts';
import { isGroupGone, isGroupThere, redisFailure } from './redis-errors.ts';
import type { RedisServer, ScriptCall } from './redis-server.ts';

export interface RedisGroupOptions {
  readonly server: RedisServer;
  readonly group: string;
  /** Unique to this process. */
  readonly consumer: string;
  readonly types: readonly string[];
  readonly streamOf: (type: string) => string;
  readonly deadLetters: { readonly stream: string; readonly maxLength: number };
  readonly scripts: { readonly reclaim: ScriptCall; readonly sweep: ScriptCall };
  readonly clock: Clock;
  readonly logger: Logger;
  readonly maxTries: number;
  readonly retry: DeliveryRules['retry'];
  /** What was not acknowledged for this long is taken over. Whoever lives says so more often. */
  readonly reclaimAfterMs: number;
}

/** An event that Redis gave to this process, and that it has not acknowledged yet. */
interface Held extends Delivery {
  readonly key: string;
  readonly stream: string;
  readonly entryId: string;
  /** Before this time, on the monotonic clock, nobody else takes it over. */
  heldUntil: number;
}

interface Reading {
  readonly stop: AbortController;
  readonly connection: BlockingConnection;
  readonly ended: Promise<void>;
}

const consumerGoneAfterMs = 600_000;
const reclaimBatch = 100;

/**
 * The consumers of one group in this process. Redis keeps for the group what was given to whom and not acknowledged, and
 * how often: a process reads in batches, says in time that it still lives, acknowledges what was handled, and takes over
 * what others left.
 */
export class RedisGroup {
  readonly #options: RedisGroupOptions;
  readonly #streams: readonly string[];
  readonly #consumers: ConsumerGroup<Held>;
  readonly #held = new Map<string, Held>();
  readonly #tasks: BackgroundTasks;
  #acknowledged = new Map<string, string[]>();
  #acknowledging = false;
  /** Whether Redis knows the group; `lost` when it did once. */
  #known: 'never' | 'yes' | 'lost' = 'never';
  #reading: Reading | undefined;
  #loop: ReconcileLoop | undefined;
  #batch = firstBatch;
  #roomMade: (() => void) | undefined;
  #ending: Promise<void> | undefined;

  constructor(options: RedisGroupOptions) {
    this.#options = options;
    const { group, clock, logger, maxTries, retry } = options;
    this.#streams = [...new Set(options.types)].map(options.streamOf);
    this.#tasks = new BackgroundTasks(logger);
    this.#consumers = new ConsumerGroup<Held>(group, {
      clock,
      logger,
      maxTries,
      retry,
      begin: (held) => this.#begin(held),
      onHandled: (held) => this.#acknowledge(held),
      onDeadLetter: (letter, held) => this.#bury(letter, held),
    });
    // Sent before anything that this process publishes from now on. A failure is found again when reading.
    const made = this.#ensureGroup().catch(() => undefined);
    this.#tasks.start(`make group ${group}`, () => made);
  }

  join(handler: (event: BusEvent) => Promise<void>): () => Promise<void> {
    const leave = this.#consumers.join(handler);
    this.#start();
    let left: Promise<void> | undefined;
    return () => {
      left ??= (async () => {
        await leave();
        if (this.#consumers.members === 0) await this.#end();
      })();
      return left;
    };
  }

  /** Ends all consumers when their handlers are done, and gives back what they have not begun with. */
  async close(): Promise<void> {
    const left = await this.#consumers.close();
    await this.#end(left);
    await this.#tasks.drain();
  }

  #start(): void {
    if (this.#reading) return;
    const { server, group, clock, logger, reclaimAfterMs } = this.#options;
    const ended = deferred();
    const reading = { stop: new AbortController(), connection: server.blockingConnection(), ended: ended.promise };
    this.#reading = reading;
    const before = this.#ending;
    this.#tasks.start(`read for ${group}`, async () => {
      await before;
      await this.#read(reading.connection, reading.stop.signal).finally(ended.resolve);
    });
    this.#loop = new ReconcileLoop({
      name: `redis-group ${group}`,
      tickMs: reclaimAfterMs / 5,
      clock,
      logger,
      run: () => this.#tick(),
    });
    this.#loop.start();
  }

  /** Stops reading, unless a new consumer came meanwhile, and leaves what waits to other processes. */
  #end(left: Held[] = []): Promise<void> {
    const [reading, loop] = [this.#reading, this.#loop];
    this.#reading = undefined;
    this.#loop = undefined;
    if (!reading || !loop) return this.#ending ?? Promise.resolve();
    this.#ending = (async () => {
      reading.stop.abort();
      this.#roomMade?.();
      await Promise.all([reading.connection.wake(), loop.stop()]);
      reading.connection.close();
      await reading.ended;
      if (this.#reading === undefined) left.push(...this.#consumers.takeBack());
      await this.#leave(left);
    })();
    return this.#ending;
  }

  async #read(connection: BlockingConnection, signal: AbortSignal): Promise<void> {
    const { server, group, consumer, clock, logger, reclaimAfterMs } = this.#options;
    const target = ['BLOCK', blockMs, 'STREAMS', ...this.#streams, ...this.#streams.map(() => '>')];
    let failures = 0;
    let takenAt = clock.monotonic();
    while (!signal.aborted) {
      try {
        if (this.#known !== 'yes') await this.#ensureGroup();
        await this.#untilRoom(signal);
        if (signal.aborted) break;
        const askedAt = clock.monotonic();
        const entries = await connection.read('XREADGROUP', [
          'GROUP',
          group,
          consumer,
          'COUNT',
          this.#batch,
          ...target,
        ]);
        const now = clock.monotonic();
        if (entries.length >= this.#batch) this.#batch = nextBatch(this.#batch, now - takenAt);
        takenAt = now;
        // Counted from the request: the answer may have been on its way while this process was stopped.
        for (const entry of entries) this.#take(entry, 0, askedAt + reclaimAfterMs);
        failures = 0;
      } catch (error) {
        if (signal.aborted) break;
        if (isGroupGone(error)) this.#known = 'lost';
        else if (failures === 0) logger.warn('events cannot be read', { group, error: redisFailure(error, server) });
        await delay(clock, backoffMs(failures, { initialMs: 50, maxMs: 1_000 }), signal);
        failures += 1;
      }
    }
  }

  /** A group that was lost with all streams begins anew with what came since; a new one begins now. */
  async #ensureGroup(): Promise<void> {
    const { server, group, consumer, scripts } = this.#options;
    const from = this.#known === 'lost' ? '0' : '$';
    if (this.#known === 'lost') this.#options.logger.warn('consumer group is made again', { group });
    await Promise.all(
      this.#streams.map((stream) =>
        server.client.xgroup('CREATE', stream, group, from, 'MKSTREAM').catch((error: unknown) => {
          if (!isGroupThere(error)) throw redisFailure(error, server);
        }),
      ),
    );
    this.#known = 'yes';
    await scripts.sweep(this.#streams, [group, consumer, consumerGoneAfterMs]);
  }

  /** Reads on when half of a batch is left: neither does a handler wait for a reply, nor do events wait here in masses. */
  async #untilRoom(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && this.#consumers.waiting * 2 > this.#batch) {
      await new Promise<void>((resolve) => {
        this.#roomMade = resolve;
      });
    }
    this.#roomMade = undefined;
  }

  #take(entry: StreamEntry, tries: number, heldUntil: number): void {
    const key = `${entry.stream} ${entry.entryId}`;
    if (this.#held.has(key)) return;
    const { stream, entryId } = entry;
    const event = decodeEvent(entry);
    const held: Held = { key, event: event ?? foreignEvent(entry), tries, stream, entryId, heldUntil };
    this.#held.set(key, held);
    const { group, maxTries, logger } = this.#options;
    const failure = event ? 'its consumers ended while they handled it' : 'it is not an event';
    if (event && tries < maxTries) this.#consumers.offer(held);
    else {
      logger.error('event given up', { group, entry_id: entryId, stream, tries, failure });
      this.#bury({ group, event: held.event, tries, failure }, held);
    }
  }

  #begin(held: Held): boolean | Promise<boolean> {
    if (this.#consumers.waiting * 2 <= this.#batch) this.#roomMade?.();
    if (held.heldUntil <= this.#options.clock.monotonic()) {
      // This process stood still for too long: another one has it by now, or it will be given to us again.
      this.#forget(held);
      return false;
    }
    return held.tries === 0 || this.#countDelivery(held);
  }

  /** The first delivery is counted by the read. Others are when they begin, so that a handler that kills us counts, too. */
  async #countDelivery(held: Held): Promise<boolean> {
    const { logger, group } = this.#options;
    await this.#claim(held.stream, [held.entryId], ['RETRYCOUNT', held.tries + 1]).catch((error: unknown) =>
      logger.warn('a delivery could not be counted', { group, event_id: held.event.id, error }),
    );
    return true;
  }

  async #claim(stream: string, ids: readonly string[], more: ReadonlyArray<string | number> = []): Promise<void> {
    const { server, group, consumer } = this.#options;
    await server.run((client) => client.call('XCLAIM', stream, group, consumer, 0, ...ids, ...more, 'JUSTID'));
  }

  #acknowledge(held: Held): void {
    this.#forget(held);
    const ids = this.#acknowledged.get(held.stream);
    if (ids) ids.push(held.entryId);
    else this.#acknowledged.set(held.stream, [held.entryId]);
    if (this.#acknowledging) return;
    this.#acknowledging = true;
    // Together with all that is handled, and published, in this turn.
    process.nextTick(() => {
      this.#acknowledging = false;
      this.#tasks.start('acknowledge events', () => this.#sendAcknowledged());
    });
  }

  async #sendAcknowledged(): Promise<void> {
    const { server, group } = this.#options;
    const taken = this.#acknowledged;
    this.#acknowledged = new Map();
    for (const [stream, ids] of taken) {
      await server
        .run((client) => client.xack(stream, group, ...ids))
        .catch((error: unknown) => {
          // The next tick sends them again; whoever takes them over before handles them twice.
          this.#options.logger.warn('events could not be acknowledged', { group, count: ids.length, error });
          this.#acknowledged.set(stream, [...(this.#acknowledged.get(stream) ?? []), ...ids]);
        });
    }
  }

  #bury(letter: DeadLetter, held: Held): void {
    const { server, group, deadLetters, logger } = this.#options;
    this.#tasks.start('store dead letter', async () => {
      try {
        await server.run(async (client) => {
          const results = await client
            .multi()
            .xadd(deadLetters.stream, 'MAXLEN', '~', deadLetters.maxLength, '*', bodyField, JSON.stringify(letter))
            .xack(held.stream, group, held.entryId)
            .exec();
          for (const [error] of results ?? []) if (error) throw error;
        });
      } catch (error) {
        logger.error('dead letter could not be stored, its event comes again', { group, letter, error });
      } finally {
        this.#forget(held);
      }
    });
  }

  #forget(held: Held): void {
    this.#held.delete(held.key);
  }

  async #tick(): Promise<void> {
    if (this.#known !== 'yes') return;
    try {
      await this.#sendAcknowledged();
      await this.#sayAlive();
      for (const stream of this.#streams) await this.#reclaim(stream);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      // The reader tells of an unreachable server, and makes a lost group again.
      this.#options.logger.debug('events of others could not be looked at', { group: this.#options.group, error });
    }
  }

  async #sayAlive(): Promise<void> {
    const { clock, reclaimAfterMs } = this.#options;
    const now = clock.monotonic();
    const due = new Map<string, Held[]>();
    for (const held of this.#held.values()) {
      const left = held.heldUntil - now;
      if (left > 0 && left < (reclaimAfterMs * 2) / 3) due.set(held.stream, [...(due.get(held.stream) ?? []), held]);
    }
    for (const [stream, all] of due) {
      await this.#claim(
        stream,
        all.map(({ entryId }) => entryId),
      );
      for (const held of all) held.heldUntil = now + reclaimAfterMs;
    }
  }

  async #reclaim(stream: string): Promise<void> {
    const { group, consumer, clock, scripts, reclaimAfterMs } = this.#options;
    let cursor = '0-0';
    do {
      if (this.#reading === undefined || this.#consumers.waiting > this.#batch) return;
      const askedAt = clock.monotonic();
      const answer = await scripts.reclaim([stream], [group, consumer, reclaimAfterMs, cursor, reclaimBatch]);
      const [next, found] = answer as [string, Array<[string, number, string, string]>];
      for (const [entryId, deliveries, field, value] of found) {
        const entry = { stream, entryId, body: field === bodyField ? value : undefined };
        this.#take(entry, deliveries, askedAt + reclaimAfterMs);
      }
      cursor = next;
    } while (cursor !== '0-0');
  }

  /** Lets other processes take over at once what was not handled here. */
  async #leave(left: readonly Held[]): Promise<void> {
    const { group, consumer, scripts, logger, reclaimAfterMs } = this.#options;
    try {
      await this.#sendAcknowledged();
      for (const held of left) {
        this.#forget(held);
        await this.#claim(held.stream, [held.entryId], ['IDLE', reclaimAfterMs, 'RETRYCOUNT', held.tries]);
      }
      if (this.#reading === undefined) await scripts.sweep(this.#streams, [group, consumer, -1]);
    } catch (error) {
      logger.warn('consumer could not leave in order, its events are taken over later', { group, error });
    }
  }
}
