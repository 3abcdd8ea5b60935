import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { procedureFor, procedureMetas, router } from '@backend.ai/contract';
import { newRequestId } from '@backend.ai/core';
import { createRpcClient, createRpcServer, generateIdentity, pinnedKeys } from '@backend.ai/rpc';
import { currentRequestId, runWithRequest, silentLogger } from '@backend.ai/telemetry';
import { createTRPCClient, createWSClient, httpBatchLink, httpLink, wsLink } from '@trpc/client';
import { initTRPC } from '@trpc/server';
import { createHTTPServer } from '@trpc/server/adapters/standalone';
import { applyWSSHandler } from '@trpc/server/adapters/ws';
import { WebSocket, WebSocketServer } from 'ws';
import { z } from 'zod';
import type { Bench, BenchResult } from './bench.ts';

/**
 * One small procedure over the stock tRPC links and over ours; servers in one process, callers in another. The stock
 * links run with their defaults and do less: no superjson, no access check, no request context, no deadlines.
 */

const echoInput = z.object({ name: z.string(), size: z.number(), tags: z.array(z.string()) });
type Echo = z.infer<typeof echoInput>;
const sample: Echo = { name: 'kernel-4711', size: 1024, tags: ['gpu', 'shared'] };

const t = initTRPC.create();
const stockRouter = t.router({ echo: t.procedure.input(echoInput).mutation(({ input }) => input) });

const ourRouter = router({
  echo: procedureFor('peer', { idempotent: true })
    .input(echoInput)
    .mutation(({ input }) => input),
  whoAsked: procedureFor('peer').query(({ ctx }) => [ctx.requestId, currentRequestId()]),
});

interface Addresses {
  readonly http: string;
  readonly ws: string;
  readonly rpc: string;
  readonly serverKey: string;
}

/** The child process. */
async function serve(callerKey: string): Promise<void> {
  const http = createHTTPServer({ router: stockRouter });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const sockets = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  applyWSSHandler({ wss: sockets, router: stockRouter });
  await once(sockets, 'listening');
  const identity = generateIdentity('agent', 'bench-server');
  const rpc = createRpcServer({
    router: ourRouter,
    identity,
    directory: pinnedKeys('manager', [callerKey]),
    allow: ['manager'],
    logger: silentLogger,
  });
  const { address } = await rpc.listenWebSocket({ host: '127.0.0.1', port: 0 });
  const portOf = (bound: unknown): number => (bound as { port: number }).port;
  process.send?.({
    http: `http://127.0.0.1:${portOf(http.address())}`,
    ws: `ws://127.0.0.1:${portOf(sockets.address())}`,
    rpc: address,
    serverKey: identity.publicKey,
  } satisfies Addresses);
}

type Call = () => Promise<unknown>;

/** Calls per second with `inFlight` callers that each wait for their answer. */
async function rate(call: Call, inFlight: number, durationMs: number): Promise<number> {
  let done = 0;
  const begin = performance.now();
  const end = begin + durationMs;
  const caller = async (): Promise<void> => {
    while (performance.now() < end) {
      await call();
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  return (done * 1_000) / (performance.now() - begin);
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

async function measure(child: ChildProcess, quick: boolean, identity: ReturnType<typeof generateIdentity>) {
  const [addresses] = (await once(child, 'message')) as [Addresses];
  const wsClient = createWSClient({ url: addresses.ws, WebSocket: WebSocket as never });
  const stock = (link: ReturnType<typeof httpLink>) => createTRPCClient<typeof stockRouter>({ links: [link] });
  const ours = createRpcClient<typeof ourRouter>({
    address: addresses.rpc,
    identity,
    serverKeys: [addresses.serverKey],
    metas: procedureMetas(ourRouter),
    logger: silentLogger,
  });
  await ours.connect();
  const clients = {
    httpLink: stock(httpLink({ url: addresses.http })),
    httpBatchLink: stock(httpBatchLink({ url: addresses.http })),
    wsLink: stock(wsLink({ client: wsClient })),
    ours: ours.api,
  };
  const names = Object.keys(clients) as Array<keyof typeof clients>;
  const rates = new Map<string, number[]>();
  const [rounds, durationMs] = quick ? [2, 250] : [5, 1_000];
  for (let round = -1; round < rounds; round++) {
    for (const inFlight of [1, 32]) {
      for (const name of names) {
        const client = clients[name];
        const measured = await rate(() => client.echo.mutate(sample), inFlight, durationMs);
        const key = `${name} ${inFlight}`;
        if (round >= 0) rates.set(key, [...(rates.get(key) ?? []), measured]);
      }
    }
  }
  const total = 15_000;
  let correct = 0;
  let started = 0;
  const asker = async (): Promise<void> => {
    while (started < total) {
      started += 1;
      const requestId = newRequestId();
      // The client refuses an answer that carries another id: what returns was right in both directions.
      const seen = await runWithRequest({ requestId }, () => ours.api.whoAsked.query());
      if (seen.every((id) => id === requestId)) correct += 1;
    }
  };
  await Promise.all(Array.from({ length: 32 }, asker));
  await ours.close();
  await wsClient.close();
  const of = (name: string, inFlight: number): number => median(rates.get(`${name} ${inFlight}`) ?? []);
  return { names, of, correct, total };
}

async function run({ quick }: { quick: boolean }): Promise<BenchResult> {
  const identity = generateIdentity('manager', 'bench-caller');
  const child = fork(fileURLToPath(import.meta.url), ['serve', identity.publicKey]);
  try {
    const { names, of, correct, total } = await measure(child, quick, identity);
    const target = (name: string, value: number, limit: number, unit: string) => ({
      name,
      value: Number(value.toFixed(2)),
      limit,
      unit,
      ok: value >= limit,
    });
    const ratio = (name: string): number => of('ours', 32) / of(name, 32);
    return {
      title: 'Small calls between two processes',
      columns: ['link', 'calls/s, 1 in flight', 'to httpLink', 'calls/s, 32 in flight', 'to httpLink'],
      rows: names.map((name) => [
        name,
        Math.round(of(name, 1)),
        Number((of(name, 1) / of('httpLink', 1)).toFixed(2)),
        Math.round(of(name, 32)),
        Number((of(name, 32) / of('httpLink', 32)).toFixed(2)),
      ]),
      targets: [
        target('ours to httpLink, 32 in flight', ratio('httpLink'), 3, 'times'),
        target('ours to wsLink, 32 in flight', ratio('wsLink'), 1.4, 'times'),
        target(`request ids right in ${total} calls`, (100 * correct) / total, 100, '%'),
      ],
    };
  } finally {
    child.kill();
  }
}

export const bench: Bench = { name: 'rpc', run };

if (process.argv[2] === 'serve' && process.send) void serve(process.argv[3] ?? '');
