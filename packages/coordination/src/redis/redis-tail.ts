import { backoffMs, type Clock, delay } from '@backend.ai/core';
import { BackgroundTasks, type Logger } from '@backend.ai/telemetry';
import type { BusEvent } from '../event-bus.ts';
import { type BlockingConnection, blockMs } from './blocking-connection.ts';
import { compareEntryIds, decodeEvent } from './event-codec.ts';
import { redisFailure } from './redis-errors.ts';
import type { RedisServer } from './redis-server.ts';

const batch = 512;

/** Follows streams from now on for one process, each event once. It goes on where it was when the connection broke. */
export class RedisTail {
  readonly #server: RedisServer;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #tell: (event: BusEvent) => void;
  readonly #tasks: BackgroundTasks;
  readonly #stop = new AbortController();
  /** Last entry seen; until it is known where a stream ends, a question about that. */
  readonly #positions = new Map<string, string | Promise<string>>();
  #connection: BlockingConnection | undefined;

  constructor(server: RedisServer, clock: Clock, logger: Logger, tell: (event: BusEvent) => void) {
    this.#server = server;
    this.#clock = clock;
    this.#logger = logger;
    this.#tell = tell;
    this.#tasks = new BackgroundTasks(logger);
  }

  follow(streams: readonly string[]): void {
    const before = this.#positions.size;
    for (const stream of streams) {
      // Asked now: it is answered before anything that this process publishes from now on.
      if (!this.#positions.has(stream)) this.#positions.set(stream, this.#ask(stream));
    }
    if (this.#positions.size === before || this.#stop.signal.aborted) return;
    if (this.#connection) void this.#connection.wake();
    else {
      const connection = this.#server.blockingConnection();
      this.#connection = connection;
      this.#tasks.start('listen to events', () => this.#run(connection));
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#connection?.wake();
    this.#connection?.close();
    await this.#tasks.drain();
  }

  async #run(connection: BlockingConnection): Promise<void> {
    const { signal } = this.#stop;
    let failures = 0;
    while (!signal.aborted) {
      try {
        if (failures > 0) await this.#rewind();
        const positions = await this.#known();
        const args = ['COUNT', batch, 'BLOCK', blockMs, 'STREAMS', ...positions.keys(), ...positions.values()];
        const entries = await connection.read('XREAD', args);
        for (const entry of entries.sort((left, right) => compareEntryIds(left.entryId, right.entryId))) {
          this.#positions.set(entry.stream, entry.entryId);
          const event = decodeEvent(entry);
          if (event) this.#tell(event);
          else this.#logger.error('event skipped: it is not one', { stream: entry.stream, entry_id: entry.entryId });
        }
        failures = 0;
      } catch (error) {
        if (signal.aborted) break;
        if (failures === 0) {
          this.#logger.warn('events cannot be listened to', { error: redisFailure(error, this.#server) });
        }
        await delay(this.#clock, backoffMs(failures, { initialMs: 50, maxMs: 1_000 }), signal);
        failures += 1;
      }
    }
  }

  async #known(): Promise<Map<string, string>> {
    const known = new Map<string, string>();
    for (const [stream, position] of this.#positions) {
      try {
        known.set(stream, await position);
      } catch (error) {
        this.#positions.set(stream, this.#ask(stream));
        throw error;
      }
      this.#positions.set(stream, known.get(stream)!);
    }
    return known;
  }

  /** A server that lost its streams and its clock's lead would give all new events ids that we take for old ones. */
  async #rewind(): Promise<void> {
    for (const [stream, position] of await this.#known()) {
      if (compareEntryIds(await this.#ask(stream), position) < 0) this.#positions.set(stream, '0-0');
    }
  }

  #ask(stream: string): Promise<string> {
    const answer = this.#server
      .run((client) => client.xrevrange(stream, '+', '-', 'COUNT', 1))
      .then(([last]) => last?.[0] ?? '0-0');
    // Whoever needs the position finds the failure.
    answer.catch(() => undefined);
    return answer;
  }
}
