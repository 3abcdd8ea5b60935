import type { LiveValues, WindowCount } from '../live-values.ts';
import type { RedisServer, ScriptCall } from './redis-server.ts';

const incrementScript = `
local count = redis.call('INCRBY', KEYS[1], ARGV[2])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  left = tonumber(ARGV[1])
end
return { count, left }`;

/** Members are scored with the time of their end, on the clock of the server. */
const nowScript = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)`;

const markPresentScript = `${nowScript}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end`;

const presentScript = `${nowScript}
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')`;

/** Live values in Redis, which everybody with the same prefix shares. */
export class RedisLiveValues implements LiveValues {
  readonly #server: RedisServer;
  readonly #prefix: string;
  readonly #increment: ScriptCall;
  readonly #markPresent: ScriptCall;
  readonly #present: ScriptCall;

  constructor(server: RedisServer, prefix: string) {
    this.#server = server;
    this.#prefix = prefix;
    this.#increment = server.script('liveIncrement', incrementScript);
    this.#markPresent = server.script('liveMarkPresent', markPresentScript);
    this.#present = server.script('livePresent', presentScript);
  }

  get(key: string): Promise<string | null> {
    return this.#server.run((client) => client.get(this.#value(key)));
  }

  async set(key: string, value: string, ttlMs?: number): Promise<void> {
    await this.#server.run((client) =>
      ttlMs === undefined || ttlMs === Number.POSITIVE_INFINITY
        ? client.set(this.#value(key), value)
        : client.set(this.#value(key), value, 'PX', wholeMs(ttlMs)),
    );
  }

  async setIfAbsent(key: string, value: string, ttlMs: number): Promise<boolean> {
    const set = await this.#server.run((client) => client.set(this.#value(key), value, 'PX', wholeMs(ttlMs), 'NX'));
    return set !== null;
  }

  async expire(key: string, ttlMs: number): Promise<boolean> {
    return (await this.#server.run((client) => client.pexpire(this.#value(key), wholeMs(ttlMs)))) === 1;
  }

  async delete(key: string): Promise<boolean> {
    return (await this.#server.run((client) => client.del(this.#value(key)))) === 1;
  }

  async increment(key: string, windowMs: number, by = 1): Promise<WindowCount> {
    const answer = await this.#increment([`${this.#prefix}window:${key}`], [wholeMs(windowMs), by]);
    const [count, resetInMs] = answer as [number, number];
    return { count, resetInMs };
  }

  async markPresent(set: string, member: string, ttlMs: number): Promise<void> {
    await this.#markPresent([this.#set(set)], [member, wholeMs(ttlMs)]);
  }

  async markAbsent(set: string, member: string): Promise<void> {
    await this.#server.run((client) => client.zrem(this.#set(set), member));
  }

  async present(set: string): Promise<string[]> {
    return ((await this.#present([this.#set(set)], [])) as string[]).sort();
  }

  /** The server is closed by whoever opened it. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  #value(key: string): string {
    return `${this.#prefix}value:${key}`;
  }

  #set(name: string): string {
    return `${this.#prefix}present:${name}`;
  }
}

/** Redis knows no parts of milliseconds, and refuses a time that is over already. */
const wholeMs = (ms: number): number => Math.max(1, Math.ceil(ms));
