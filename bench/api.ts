import { readFileSync } from 'node:fs';
import { authHeaders } from '@backend.ai/client';
import superjson from 'superjson';
import { type Bench, type BenchResult, percentile } from './bench.ts';
import { type ApiServers, startApiServers } from './support/api-servers.ts';
import { latencies, type NextRequest, throughput } from './support/http-load.ts';
import type { ServerProcess } from './support/servers.ts';

/**
 * What the API adds to its query: signature, request id, rate limit across managers, access log, views. The manager is
 * what `mgr start-server` starts; the peer is a bare Fastify route with the same statement on the same PostgreSQL. The
 * load comes from this process, the same requests to both, in turns. Processes share the cores of the machine.
 */

const sessions = 100;
const inFlight = 32;

interface Place {
  readonly name: string;
  readonly ours: string;
  readonly peers: string;
  /** Requests of the open load. A list is a hundred times as much: 500 of them a second are beyond the bare route, too. */
  readonly perSecond: number;
  /** Of its latency under that load, in milliseconds, where one is promised. */
  readonly p99LimitMs?: number;
}

const listInput = encodeURIComponent(JSON.stringify(superjson.serialize({ all: false, limit: sessions })));
const places: readonly Place[] = [
  { name: 'GET /session/{name}', ours: '/session/s-50', peers: '/session/s-50', perSecond: 500, p99LimitMs: 20 },
  {
    name: `list of ${sessions} sessions`,
    ours: `/rpc/session.list?input=${listInput}`,
    peers: '/sessions',
    perSecond: 25,
  },
];

/** Signed with as many dates as there are: a signature costs the caller as much as the server. */
function requests(port: number, target: string, credentials: ApiServers['credentials']): NextRequest {
  const url = new URL(target, `http://127.0.0.1:${port}`);
  const now = Date.now();
  const texts = Array.from({ length: 1_000 }, (_, index) => {
    const headers = authHeaders(credentials, { method: 'GET', url, now: new Date(now - index) });
    const lines = Object.entries({ host: url.host, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
    return `GET ${url.pathname}${url.search} HTTP/1.1\r\n${lines.join('')}\r\n`;
  });
  let sent = 0;
  return () => texts[sent++ % texts.length] as string;
}

const ticksPerSecond = 100;

/** Processor time of a process so far, all its threads, in microseconds. */
function processorUs({ pid }: ServerProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1_000_000) / ticksPerSecond;
}

interface Rate {
  readonly perSecond: number;
  /** Processor time of the server alone; other work on the machine does not change it much. */
  readonly usPerRequest: number;
}

async function rateOf(server: ServerProcess, next: NextRequest, durationMs: number): Promise<Rate> {
  const [begun, before] = [performance.now(), processorUs(server)];
  const perSecond = await throughput(server.port, next, { inFlight, durationMs });
  const count = (perSecond * (performance.now() - begun)) / 1_000;
  return { perSecond, usPerRequest: (processorUs(server) - before) / count };
}

async function measure(place: Place, servers: ApiServers, quick: boolean) {
  const { manager, peer, credentials } = servers;
  const ours = (): NextRequest => requests(manager.port, place.ours, credentials);
  const peers = (): NextRequest => requests(peer.port, place.peers, credentials);
  const durationMs = quick ? 1_000 : 3_000;
  const rates: Array<{ readonly ours: Rate; readonly peers: Rate }> = [];
  // The first rounds warm up.
  for (let round = -2; round < (quick ? 3 : 9); round++) {
    const both = {
      ours: await rateOf(manager, ours(), durationMs),
      peers: await rateOf(peer, peers(), durationMs),
    };
    if (round >= 0) rates.push(both);
  }
  const open = { perSecond: place.perSecond, durationMs: quick ? 2_000 : 6_000 };
  const samples = { ours: [] as number[], peers: [] as number[] };
  for (let round = 0; round < (quick ? 1 : 3); round++) {
    samples.ours.push(...(await latencies(manager.port, ours(), open)));
    samples.peers.push(...(await latencies(peer.port, peers(), open)));
  }
  const median = (of: (rate: (typeof rates)[number]) => number): number => percentile(rates.map(of), 0.5);
  return {
    ours: { perSecond: median(({ ours }) => ours.perSecond), usPerRequest: median(({ ours }) => ours.usPerRequest) },
    peers: {
      perSecond: median(({ peers }) => peers.perSecond),
      usPerRequest: median(({ peers }) => peers.usPerRequest),
    },
    /** Of the rounds, each beside its neighbour. */
    ratio: median(({ ours, peers }) => ours.perSecond / peers.perSecond),
    samples,
  };
}

export const bench: Bench = {
  name: 'api',
  async run({ quick }) {
    const servers = await startApiServers(sessions);
    try {
      const rows: Array<Array<string | number>> = [];
      const targets: BenchResult['targets'] = [];
      for (const place of places) {
        const { ours, peers, ratio, samples } = await measure(place, servers, quick);
        const line = (who: string, rate: Rate, to: number, ms: number[]) =>
          rows.push([
            ...[place.name, who, Math.round(rate.perSecond), to, Math.round(rate.usPerRequest)],
            ...[place.perSecond, percentile(ms, 0.5), percentile(ms, 0.99)],
          ]);
        line('bare Fastify route', peers, 1, samples.peers);
        line('manager', ours, ratio, samples.ours);
        targets.push({
          name: `${place.name}, to the bare route`,
          value: ratio,
          limit: 0.5,
          unit: '×',
          ok: ratio >= 0.5,
        });
        const { perSecond, p99LimitMs: limit } = place;
        if (limit === undefined) continue;
        const p99 = percentile(samples.ours, 0.99);
        targets.push({ name: `${place.name}, p99 at ${perSecond}/s`, value: p99, limit, unit: 'ms', ok: p99 <= limit });
      }
      return {
        title: 'Calls of the API beside a bare Fastify route with the same statement',
        columns: [
          ...['call', 'server', `requests/s, ${inFlight} in flight`, 'to the bare route', 'CPU µs each'],
          ...['open load, requests/s', 'p50 ms', 'p99 ms'],
        ],
        rows,
        targets,
      };
    } finally {
      await servers.stop();
    }
  },
};
