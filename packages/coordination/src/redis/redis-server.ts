import { AppError, type Clock, systemClock } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { type RedisOptions as ClientOptions, Redis } from 'ioredis';
import { within } from '../deadline.ts';
import { BlockingConnection, blockMs } from './blocking-connection.ts';
import { redisFailure } from './redis-errors.ts';

export interface RedisServerOptions {
  /** `redis://user:password@host:port/database`, or `rediss:` for TLS. */
  readonly url: string;
  /** PEM of the authority that signed the server's certificate, where the system does not know it. */
  readonly ca?: string | undefined;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
  readonly connectDeadlineMs?: number | undefined;
  /** Command that shows the settings of whoever opens it, for errors about them. */
  readonly showConfig?: string | undefined;
}

/** Commands that no answer came to in this time have an unknown outcome. */
const commandDeadlineMs = 3_000;
const oldestVersion = [6, 2] as const;

export type ScriptCall = (keys: readonly string[], args: ReadonlyArray<string | number>) => Promise<unknown>;

/**
 * A Redis server and our connections to it. Broken connections are made again by themselves, several times a second.
 * Commands wait for that, but no longer than their deadline; what was on its way when a connection broke is not sent
 * again, because it may have been carried out.
 */
export class RedisServer {
  readonly address: string;
  readonly showConfig: string | undefined;
  /** For commands that do not block. */
  readonly client: Redis;
  readonly #options: RedisServerOptions;
  /** The connection that holds back what is written in this turn. */
  #gathering: Redis['stream'] | undefined;

  private constructor(options: RedisServerOptions, url: URL) {
    this.#options = options;
    this.showConfig = options.showConfig;
    this.address = `${url.hostname}:${url.port || 6379}`;
    this.client = this.#connection({ commandTimeout: commandDeadlineMs, maxRetriesPerRequest: 20 });
  }

  /** @throws AppError `config-invalid` (URL, user, password, version), `server-unreachable` */
  static async open(options: RedisServerOptions): Promise<RedisServer> {
    const url = URL.canParse(options.url) ? new URL(options.url) : undefined;
    if (!url || !/^rediss?:$/.test(url.protocol) || !url.hostname) {
      throw new AppError('config-invalid', 'The URL of Redis is not one.', {
        hint: 'Write it as redis://USER:PASSWORD@HOST:PORT',
      });
    }
    const server = new RedisServer(options, url);
    let refusal: unknown;
    server.client.on('error', (error) => {
      refusal ??= error;
    });
    try {
      const deadlineMs = options.connectDeadlineMs ?? 10_000;
      await within(options.clock ?? systemClock, deadlineMs, () => server.client.connect());
      await server.#requireVersion();
    } catch (error) {
      server.client.disconnect();
      throw refusal === undefined && error instanceof AppError && error.code === 'deadline-exceeded'
        ? redisFailure(new Error('ETIMEDOUT'), server)
        : redisFailure(refusal ?? error, server);
    }
    return server;
  }

  /** @throws AppError in place of what the client throws */
  async run<T>(work: (client: Redis) => Promise<T>): Promise<T> {
    this.#gatherWrites();
    try {
      return await work(this.client);
    } catch (error) {
      throw redisFailure(error, this);
    }
  }

  /** A script runs as one step. It is sent by its hash, and whole to a server that does not have it. */
  script(name: string, lua: string): ScriptCall {
    this.client.defineCommand(name, { lua });
    const command = (this.client as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>)[name]!;
    return (keys, args) => this.run(() => command.call(this.client, keys.length, ...keys, ...args));
  }

  /** Commands that wait for something hold up all others: they get a connection of their own. */
  blockingConnection(): BlockingConnection {
    // Silence for longer than a command may block is a dead server or a dead network.
    const own = this.#connection({ maxRetriesPerRequest: 0, socketTimeout: blockMs + commandDeadlineMs });
    return new BlockingConnection(own, this.client);
  }

  /** Milliseconds that an answer takes. @throws AppError */
  async ping(): Promise<number> {
    const begun = performance.now();
    await this.run((client) => client.ping());
    return performance.now() - begun;
  }

  async close(): Promise<void> {
    this.client.disconnect();
  }

  /** The commands of one turn of the event loop go out together: handing over to the network costs more than a command. */
  #gatherWrites(): void {
    const { stream } = this.client;
    if (!stream || stream === this.#gathering) return;
    this.#gathering = stream;
    stream.cork();
    setImmediate(() => {
      this.#gathering = undefined;
      stream.uncork();
    });
  }

  #connection(options: ClientOptions): Redis {
    const { url, ca, logger } = this.#options;
    const client = new Redis(url, {
      lazyConnect: true,
      // The replies of streams have one shape there on all versions.
      protocol: 2,
      connectTimeout: 2_000,
      retryStrategy: (attempt) => Math.min(50 * attempt, 250),
      autoResendUnfulfilledCommands: false,
      ...(ca === undefined ? {} : { tls: { ca } }),
      ...options,
    });
    let last: string | undefined;
    client.on('error', (error: Error) => {
      // Every attempt fails with the same words.
      if (error.message !== last)
        logger.warn('redis connection failed', { address: this.address, reason: error.message });
      last = error.message;
    });
    client.on('ready', () => {
      if (last !== undefined) logger.info('redis connection is back', { address: this.address });
      last = undefined;
    });
    return client;
  }

  async #requireVersion(): Promise<void> {
    const info = await this.client.info('server');
    const [, version = '0.0'] = /redis_version:(\S+)/.exec(info) ?? [];
    const [major = 0, minor = 0] = version.split('.').map(Number);
    if (major > oldestVersion[0] || (major === oldestVersion[0] && minor >= oldestVersion[1])) return;
    throw new AppError('config-invalid', `Redis at ${this.address} is of version ${version}.`, {
      hint: `Use Redis ${oldestVersion.join('.')} or newer.`,
    });
  }
}
