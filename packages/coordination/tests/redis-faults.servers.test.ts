import { hasCode } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { tempDirectory, waitFor } from '@backend.ai/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type DevServer, startRedis } from '../../../scripts/dev-servers/index.ts';
import { type BusEvent, RedisEventBus, RedisLiveValues, RedisServer } from '../src/index.ts';

const logger = silentLogger;
const recoveryMs = { timeoutMs: 30_000 };

describe('a Redis of its own', () => {
  let redis: DevServer;
  const opened: Array<{ bus: RedisEventBus; server: RedisServer }> = [];

  beforeEach(async () => {
    redis = await startRedis({ directory: await tempDirectory(), password: 'secretword', durable: false });
  });
  afterEach(async () => {
    await redis.resume();
    for (const { bus, server } of opened.splice(0)) {
      await bus.close();
      await server.close();
    }
    await redis.kill();
  });

  /** As a process of its own. */
  async function open(source: string, more: { reclaimAfterMs?: number } = {}) {
    const server = await RedisServer.open({ url: redis.url, logger });
    const retry = { initialMs: 1, maxMs: 5 };
    const bus = new RedisEventBus({ server, prefix: 'test:', source, logger, maxTries: 3, retry, ...more });
    opened.push({ bus, server });
    return { bus, server };
  }

  function collect(bus: RedisEventBus) {
    const [handled, heard]: [BusEvent[], BusEvent[]] = [[], []];
    bus.consume('group', ['fact'], async (event) => void handled.push(event));
    bus.listen(['fact'], (event) => void heard.push(event));
    const got = (payload: unknown) => (event: BusEvent) => event.payload === payload;
    return {
      handled,
      heard,
      both: (payload: unknown) => handled.some(got(payload)) && heard.some(got(payload)),
    };
  }

  /** Publishes until it is possible again, as outboxes do. */
  const insist = (bus: RedisEventBus, payload: string): Promise<unknown> =>
    waitFor(() => bus.publish('fact', payload), { ...recoveryMs, what: `${payload} is published` });

  it('goes on after a restart that lost everything', async () => {
    const { bus } = await open('one');
    const { both } = collect(bus);
    await bus.publish('fact', 'before');
    await waitFor(() => both('before'));
    await redis.kill();
    await expect(bus.publish('fact', 'during')).rejects.toSatisfy((error) =>
      hasCode(error, 'server-unreachable', 'connection-lost', 'deadline-exceeded'),
    );
    await redis.start();
    await insist(bus, 'after');
    await waitFor(() => both('after'), recoveryMs);
  });

  it('makes its groups again after FLUSHALL, and gives what was published meanwhile', async () => {
    const { bus, server } = await open('one');
    const { both, handled } = collect(bus);
    await bus.publish('fact', 'before');
    await waitFor(() => both('before'));
    for (const round of ['first', 'second']) {
      await server.client.flushall();
      await bus.publish('fact', round);
      await waitFor(() => both(round), recoveryMs);
    }
    expect(handled.map(({ payload }) => payload)).toEqual(['before', 'first', 'second']);
  });

  it('fails in time while the server is paused, and goes on when it is not', async () => {
    const { bus, server } = await open('one');
    const values = new RedisLiveValues(server, 'test:');
    const { both } = collect(bus);
    await bus.publish('fact', 'before');
    await waitFor(() => both('before'));
    await redis.pause();
    const failed = await Promise.allSettled([bus.publish('fact', 'during'), values.get('key'), server.ping()]);
    for (const outcome of failed)
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'deadline-exceeded' } });
    await redis.resume();
    await insist(bus, 'after');
    await waitFor(() => both('after'), recoveryMs);
    await values.set('key', 'value');
    expect(await values.get('key')).toBe('value');
  });

  it('misses nothing when its connections are cut', async () => {
    const { bus } = await open('one');
    const other = await open('two');
    const { both } = collect(bus);
    await bus.publish('fact', 'before');
    await waitFor(() => both('before'));
    await other.server.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await other.bus.publish('fact', 'meanwhile');
    await waitFor(() => both('meanwhile'), recoveryMs);
  });

  it('gives the events of a process that died to another one, and counts that as a try', async () => {
    const dying = await open('dying', { reclaimAfterMs: 2_000 });
    const begun: BusEvent[] = [];
    dying.bus.consume('group', ['fact'], (event) => {
      begun.push(event);
      return new Promise(() => {});
    });
    await dying.bus.publish('fact', 'held');
    await waitFor(() => begun.length === 1);
    opened.splice(0);
    cutOff(dying.server);

    const { bus } = await open('heir', { reclaimAfterMs: 2_000 });
    let tries = 0;
    bus.consume('group', ['fact'], async () => {
      tries += 1;
      throw new Error('cannot');
    });
    const letters = await waitFor(async () => {
      const found = await bus.deadLetters();
      return found.length > 0 && found;
    });
    expect(letters).toMatchObject([{ tries: 3, failure: 'cannot', event: { payload: 'held' } }]);
    expect(tries).toBe(2);
  });

  it('leaves an event with a slow handler whose process lives', async () => {
    const reclaimAfterMs = 2_000;
    const { bus } = await open('slow', { reclaimAfterMs });
    const other = await open('other', { reclaimAfterMs });
    let release = (): void => {};
    const handled: string[] = [];
    bus.consume('group', ['fact'], async () => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      handled.push('slow');
    });
    await bus.publish('fact', 'long');
    const pending = async (): Promise<Array<[string, string, number, number]>> =>
      (await other.server.client.xpending('test:events:fact', 'group', '-', '+', 10)) as never;
    await waitFor(async () => (await pending()).length === 1);
    other.bus.consume('group', ['fact'], async () => void handled.push('other'));
    // Twice as long as an event of a dead process would stay, seen by the server's clock.
    const begun = Date.now();
    await waitFor(async () => {
      const [[, consumer, idleMs, deliveries] = []] = await pending();
      expect(consumer).toMatch(/^slow-/);
      expect(deliveries).toBe(1);
      expect(idleMs).toBeLessThan(reclaimAfterMs);
      return Date.now() - begun > 2 * reclaimAfterMs;
    });
    release();
    await waitFor(async () => (await pending()).length === 0);
    expect(handled).toEqual(['slow']);
  });

  it('gives an entry that is no event up, tells so, and goes on', async () => {
    const { bus, server } = await open('one');
    const { handled, heard } = collect(bus);
    await bus.publish('fact', 'first');
    await waitFor(() => handled.length === 1);
    await server.client.xadd('test:events:fact', '*', 'event', '{"half":');
    await server.client.xadd('test:events:fact', '*', 'other', 'field');
    await bus.publish('fact', 'second');
    await waitFor(async () => handled.length === 2 && heard.length === 2 && (await bus.deadLetters()).length === 2);
    expect((await bus.deadLetters()).map(({ failure }) => failure)).toEqual(Array(2).fill('it is not an event'));
    const [left] = (await server.client.xpending('test:events:fact', 'group')) as [number];
    expect(left).toBe(0);
  });

  it('leaves no consumer behind, acknowledges everything, and bounds its streams', async () => {
    const { server } = await open('watching');
    const bus = new RedisEventBus({ server, prefix: 'test:', source: 'one', logger, maxLength: 100 });
    let handled = 0;
    bus.consume('group', ['fact'], async () => {
      handled += 1;
    });
    for (let published = 50; published <= 1_000; published += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, index) => bus.publish('fact', index)));
      await waitFor(() => handled === published);
    }
    await bus.close();
    expect(await server.client.xlen('test:events:fact')).toBeLessThan(400);
    expect((await server.client.xpending('test:events:fact', 'group')) as unknown[]).toEqual([0, null, null, null]);
    expect(await server.client.call('XINFO', 'CONSUMERS', 'test:events:fact', 'group')).toEqual([]);
  });

  it('closes in time while the server is paused', async () => {
    const { bus, server } = await open('one');
    collect(bus);
    await bus.publish('fact', 'before');
    await redis.pause();
    await bus.close();
    await server.close();
    opened.splice(0);
  });

  it('tells a wrong password, an unreachable server and a wrong URL apart, without the password', async () => {
    const outcome = (url: string) =>
      RedisServer.open({ url, logger, connectDeadlineMs: 3_000, showConfig: './backend.ai web config show' }).catch(
        (error) => error,
      );
    const wrong = await outcome(redis.url.replace('secretword', 'wrongword'));
    expect(wrong).toMatchObject({
      code: 'config-invalid',
      hint: expect.stringMatching(/password.*redis\.url-file.*web config show$/),
    });
    const missing = await outcome(`redis://127.0.0.1:${redis.port}`);
    expect(missing).toMatchObject({
      code: 'config-invalid',
      hint: expect.stringMatching(/password.*redis\.url-file.*web config show$/),
    });
    expect(await outcome('localhost:6379')).toMatchObject({ code: 'config-invalid' });
    await redis.kill();
    const gone = await outcome(redis.url);
    expect(gone).toMatchObject({ code: 'server-unreachable', message: expect.stringContaining(String(redis.port)) });
    for (const error of [wrong, missing, gone]) {
      expect(JSON.stringify([error, error.message, error.hint, error.detail, error.stack])).not.toMatch(
        /secretword|wrongword/,
      );
    }
    await redis.start();
    await redis.pause();
    expect(await outcome(redis.url)).toMatchObject({ code: 'server-unreachable' });
  });
});

/** As a process that ends does: nothing is said any more, and nothing is tried again. */
function cutOff(server: RedisServer): void {
  server.client.disconnect();
}
