import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EventBus, InProcessEventBus, RedisEventBus, RedisServer } from '@backend.ai/coordination';
import { silentLogger } from '@backend.ai/telemetry';
import { Redis } from 'ioredis';
import { startRedis } from '../scripts/dev-servers/index.ts';
import { type Bench, type BenchResult, percentile } from './bench.ts';

/**
 * Events from `publish` to the end of a handler, acknowledged. The peer is a bare loop of the same client on the same
 * server: one XADD, one XREADGROUP and one XACK at a time, or as many as we have in a pipeline; it has no request context,
 * retries, dead letters or reclaim.
 */

const payload = {
  sessionId: '0196f2a4-7c1e-7000-8000-000000000000',
  from: 'PENDING',
  to: 'SCHEDULED',
  reason: 'placed',
};
const inFlight = 256;

interface Figures {
  /** Median of the time from publishing one event to its handler, one at a time, in milliseconds. */
  readonly latencyMs: number;
  readonly perSecond: number;
}

/** Resolves when `count` events more were handled. */
class Counter {
  #left = 0;
  #done: () => void = () => {};

  expect(count: number): Promise<void> {
    this.#left = count;
    return new Promise((resolve) => {
      this.#done = resolve;
    });
  }

  add(count = 1): void {
    this.#left -= count;
    if (this.#left === 0) this.#done();
  }
}

async function measure(publish: () => Promise<unknown>, handled: Counter, quick: boolean): Promise<Figures> {
  const latencies: number[] = [];
  for (let round = 0; round < (quick ? 300 : 2_000); round++) {
    const begun = performance.now();
    const done = handled.expect(1);
    void publish();
    await done;
    latencies.push(performance.now() - begun);
  }
  const rates: number[] = [];
  const perWriter = quick ? 40 : 200;
  for (let round = 0; round < (quick ? 3 : 7); round++) {
    const done = handled.expect(perWriter * inFlight);
    const begun = performance.now();
    const writer = async (): Promise<void> => {
      for (let event = 0; event < perWriter; event++) await publish();
    };
    await Promise.all([...Array.from({ length: inFlight }, writer), done]);
    rates.push((perWriter * inFlight * 1_000) / (performance.now() - begun));
  }
  return { latencyMs: percentile(latencies.slice(latencies.length / 4), 0.5), perSecond: percentile(rates, 0.5) };
}

async function ofBus(bus: EventBus, quick: boolean): Promise<Figures> {
  const handled = new Counter();
  bus.consume('bench', ['fact'], async () => handled.add());
  const ready = handled.expect(1);
  await bus.publish('fact', payload);
  await ready;
  try {
    return await measure(() => bus.publish('fact', payload), handled, quick);
  } finally {
    await bus.close();
  }
}

async function ofBareLoop(url: string, quick: boolean): Promise<Figures> {
  const [writer, reader] = [
    new Redis(url, { protocol: 2, enableAutoPipelining: true }),
    new Redis(url, { protocol: 2 }),
  ];
  const handled = new Counter();
  await writer.xgroup('CREATE', 'bare', 'bench', '$', 'MKSTREAM');
  const loop = (async () => {
    const target = ['GROUP', 'bench', 'me', 'COUNT', 512, 'BLOCK', 0, 'STREAMS', 'bare', '>'];
    for (;;) {
      const [[, entries]] = (await reader.call('XREADGROUP', ...target)) as [[string, Array<[string, string[]]>]];
      for (const [, [, body = '']] of entries) JSON.parse(body);
      void writer.xack('bare', 'bench', ...entries.map(([id]) => id)).catch(() => undefined);
      handled.add(entries.length);
    }
  })().catch(() => undefined);
  try {
    const body = JSON.stringify(payload);
    return await measure(() => writer.xadd('bare', 'MAXLEN', '~', 100_000, '*', 'event', body), handled, quick);
  } finally {
    reader.disconnect();
    await loop;
    writer.disconnect();
  }
}

async function run({ quick }: { quick: boolean }): Promise<BenchResult> {
  const directory = await mkdtemp(join(tmpdir(), 'bench-event-bus-'));
  const redis = await startRedis({ directory, password: 'bench', durable: false });
  try {
    const bare = await ofBareLoop(redis.url, quick);
    const server = await RedisServer.open({ url: redis.url, logger: silentLogger });
    const options = { server, prefix: 'bench:', source: 'bench', logger: silentLogger };
    const streams = await ofBus(new RedisEventBus(options), quick);
    await server.close();
    const inProcess = await ofBus(new InProcessEventBus({ source: 'bench', logger: silentLogger }), quick);
    const row = (name: string, { latencyMs, perSecond }: Figures): Array<string | number> => [
      ...[name, latencyMs, latencyMs / bare.latencyMs, Math.round(perSecond), perSecond / bare.perSecond],
    ];
    const rate = (name: string, value: number, limit: number) => ({
      name,
      value,
      limit,
      unit: 'events/s',
      ok: value >= limit,
    });
    return {
      title: 'Events, from publishing to acknowledgement',
      columns: ['bus', 'latency p50 ms', 'to the bare loop', `events/s, ${inFlight} in flight`, 'to the bare loop'],
      rows: [row('bare XADD and XREADGROUP loop', bare), row('Redis streams', streams), row('in process', inProcess)],
      targets: [
        {
          name: 'Redis streams, latency p50',
          value: streams.latencyMs,
          limit: 0.3,
          unit: 'ms',
          ok: streams.latencyMs <= 0.3,
        },
        rate('Redis streams', streams.perSecond, 40_000),
        rate('in process', inProcess.perSecond, 200_000),
      ],
    };
  } finally {
    await redis.kill();
    await rm(directory, { recursive: true, force: true });
  }
}

export const bench: Bench = { name: 'event-bus', run };
