import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient, type Session, type Terminal } from '@backend.ai/client';
import { waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { freePort } from '../../../scripts/dev-servers/index.ts';
import { Cluster } from '../src/cluster.ts';

/** The whole way: SDK, manager, data port of the agent, runner. */

let folder: string;
let port: number;
let cluster: Cluster;
let session: Session;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'terminal-'));
  cluster = await Cluster.start({
    dataDir: join(folder, 'data'),
    port: 0,
    backend: 'process',
    allowUnisolated: true,
    logLevel: 'error',
    path: process.env.PATH ?? '',
  });
  port = await freePort();
  session = await createClient(cluster.credentials).sessions.create({
    image: 'node',
    resources: { cpu: '1', mem: '512m' },
    preopenPorts: [port],
  });
  await session.waitUntilRunning();
}, 60_000);
afterAll(async () => {
  await cluster.stop({ keepSessions: false });
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

/** What a terminal shows, read in the background. */
function watch(terminal: Terminal): () => string {
  let text = '';
  void (async () => {
    for await (const chunk of terminal) text += Buffer.from(chunk).toString();
  })();
  return () => text;
}

it('a terminal of a session takes keys, shows output, changes its size and tells the exit code', async () => {
  const terminal = await session.terminal({ rows: 20, cols: 70 });
  const seen = watch(terminal);
  terminal.write('stty size\n');
  await waitFor(() => seen().includes('20 70'));
  terminal.resize(33, 99);
  await waitFor(() => {
    terminal.write('stty size\n');
    return seen().includes('33 99');
  });
  terminal.write('exit 5\n');
  expect(await terminal.ended).toEqual({ exitCode: 5 });
});

it('who detached finds the terminal as it was', async () => {
  const first = await session.terminal({ name: 'kept' });
  const before = watch(first);
  first.write('value=kept; echo up-$((1 + 1))\n');
  await waitFor(() => before().includes('up-2'));
  first.detach();
  expect(await first.ended).toEqual({ exitCode: null });
  const second = await session.terminal({ name: 'kept' });
  const after = watch(second);
  await waitFor(() => after().includes('up-2'));
  second.write('echo "<$value>"\n');
  await waitFor(() => after().includes('<kept>'));
  second.detach();
});

it('a lot of output comes whole, also to a reader that rests', async () => {
  const terminal = await session.terminal({ name: 'flood', cols: 200 });
  terminal.write('stty -echo; seq 1 60000; echo all-$((1 + 1))\n');
  let text = '';
  for await (const chunk of terminal) {
    text += Buffer.from(chunk).toString();
    if (text.includes('all-2')) break;
  }
  expect([...text.matchAll(/^(\d+)\r$/gm)].map(([, number]) => Number(number))).toEqual(
    Array.from({ length: 60_000 }, (_, at) => at + 1),
  );
  terminal.detach();
});

it('a session that does not run has no terminal', async () => {
  const other = await createClient(cluster.credentials).sessions.create({
    image: 'node',
    resources: { cpu: '1', mem: '512m' },
    startsAt: new Date(Date.now() + 3_600_000).toISOString(),
    type: 'batch',
    startupCommand: 'true',
  } as never);
  await expect(other.terminal()).rejects.toMatchObject({ code: 'session-not-running' });
  await other.destroy();
});

it('a program of the session that listens is reached from here, and no other port is', async () => {
  expect(await session.services()).toEqual([{ name: String(port), protocol: 'preopen', ports: [port] }]);
  const serve = `await new Promise((done) => require('http').createServer((_, answer) => answer.end('hello from inside')).listen(${port}, '127.0.0.1', done))`;
  await session.run(serve).result;
  const stream = await session.connect(String(port));
  stream.write('GET /page HTTP/1.0\r\n\r\n');
  let answer = '';
  for await (const chunk of stream) answer += String(chunk);
  expect(answer).toMatch(/^HTTP\/1.1 200 /);
  expect(answer).toContain('hello from inside');
  await expect(session.connect(new URL(cluster.credentials.endpoint).port)).rejects.toMatchObject({
    code: 'state-conflict',
  });
  await expect(session.startService('jupyter')).rejects.toMatchObject({ code: 'object-not-found' });
});
