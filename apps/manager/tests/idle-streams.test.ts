import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { encodeHead, readHead } from '@backend.ai/rpc';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { signedHeaders } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

/** The other end of all streams: a data port that takes what it gets and says nothing. */
const sockets = new Set<Socket>();
const dataPort = createServer({ allowHalfOpen: true }, (socket) => {
  sockets.add(socket);
  socket.on('error', () => {}).on('end', () => socket.end());
  void readHead(socket).then(() => {
    socket.write(encodeHead({ ok: true }));
    socket.resume();
  });
});

let world: World;
const clients: WebSocket[] = [];

beforeAll(async () => {
  world = await createWorld({ http: { host: '127.0.0.1', port: 0 } });
  const agent = await world.addAgent('i-one');
  await once(dataPort.listen(0, '127.0.0.1'), 'listening');
  agent.dataPort = `127.0.0.1:${(dataPort.address() as AddressInfo).port}`;
});
afterAll(async () => {
  for (const client of clients) client.terminate();
  for (const socket of sockets) socket.destroy();
  dataPort.close();
  await world.close();
});

async function open(target: string): Promise<WebSocket> {
  const url = new URL(target, world.manager.addresses.api);
  const headers = signedHeaders({ actor: world.admin, secretKey: world.adminSecret }, 'GET', url);
  const client = new WebSocket(url.href.replace(/^http/, 'ws'), { headers });
  clients.push(client);
  await once(client, 'open');
  return client;
}

async function run(name: string): Promise<string> {
  const { id } = await world.create({ name });
  await world.until(id, 'RUNNING');
  // It has run for long.
  await world.database.db.execute(
    sql`update sessions set started_at = now() - interval '3 hours' where id = ${id}::uuid`,
  );
  return id;
}

const keyOf = (session: string): string => `session:${session}:last-access`;
const long = String(Date.now() - 2 * 3_600_000);
const isOld = async (session: string): Promise<boolean> => (await world.liveValues().get(keyOf(session))) === long;
/** As if nobody had used them for long: who is in use is so again with the next look of the manager at its streams. */
const age = (sessions: readonly string[]) =>
  Promise.all(sessions.map((session) => world.liveValues().set(keyOf(session), long, 3_600_000)));
const used = (sessions: readonly string[]) =>
  waitFor(async () => !(await Promise.all(sessions.map(isOld))).includes(true), { what: 'all are in use' });

it('a session with an open terminal or connection is in use as long as that is open, and may be idle from then on', async () => {
  const streams = { terminal: 'pty', connection: 'tcpproxy?app=8080' };
  const [kept, left]: [string[], string[]] = [[], []];
  const closing: WebSocket[] = [];
  for (const [name, stream] of Object.entries(streams)) {
    const [stays, goes] = [await run(`${name}-stays`), await run(`${name}-goes`)];
    await open(`/stream/session/${stays}/${stream}`);
    closing.push(await open(`/stream/session/${goes}/${stream}`));
    kept.push(stays);
    left.push(goes);
  }
  await age([...kept, ...left]);
  await used([...kept, ...left]);

  for (const client of closing) client.close();
  // The look that sees those in use leaves the others as they are.
  await waitFor(
    async () => {
      await age([...kept, ...left]);
      await used(kept);
      return (await Promise.all(left.map(isOld))).every(Boolean);
    },
    { what: 'those that were closed are in use no more' },
  );

  await world.configStore.put('config/idle/checkers/network_timeout/threshold', '1h');
  await world.configStore.put('config/idle/enabled', 'network_timeout');
  for (const session of left)
    expect((await world.until(session, 'TERMINATED')).reason).toMatchObject({
      code: 'idle-timeout',
      data: { checker: 'network_timeout' },
    });
  const { api } = world.manager.services;
  for (const session of kept) {
    const { checks } = await api.session.idle({ session }, world.ctx());
    expect(checks.find(({ checker }) => checker === 'network_timeout')).toMatchObject({ verdict: 'active' });
  }
});
