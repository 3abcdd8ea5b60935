import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@backend.ai/testing';
import { afterEach, expect, test } from 'vitest';
import { TestCluster } from './support/cluster.ts';

interface SessionDocument {
  session: { id: string; status: string; reason: { code: string; message: string } };
}

let cluster: TestCluster | undefined;
afterEach(async () => {
  await cluster?.stop();
  cluster = undefined;
});

test('a session outlives a kill -9 of the cluster: the command that runs in it goes on as if nothing had happened', async () => {
  cluster = await TestCluster.start();
  const port = ['--port', new URL(cluster.credentials.endpoint).port];
  const created = await cluster.json<SessionDocument>(['session', 'create', '--name', 'survivor', 'python']);
  await cluster.json(['session', 'exec', 'survivor', '-c', 'x = 41']);
  const code = [
    'import os, time',
    'print("before", flush=True)',
    'open("began", "w").close()',
    'while not os.path.exists("go.txt"): time.sleep(0.01)',
    'x += 1',
    'print("after", x)',
  ].join('\n');
  const running = cluster.cli(['session', 'exec', 'survivor', '-c', code]);
  await waitFor(async () => (await filesOf('survivor')).includes('began'));

  await cluster.kill();
  await cluster.up(port);

  const info = await cluster.json<SessionDocument>(['session', 'info', 'survivor']);
  expect(info.session).toMatchObject({ id: created.session.id, status: 'RUNNING' });
  const go = join(cluster.dataDir, 'go.txt');
  writeFileSync(go, '');
  await cluster.json(['session', 'upload', 'survivor', go]);
  expect(await running).toMatchObject({ code: 0, stdout: 'before\nafter 42\n' });
  const later = await cluster.json<{ stdout: string }>(['session', 'exec', 'survivor', '-c', 'x']);
  expect(later.stdout).toBe('42\n');
});

test('a kernel that died while the cluster was down is reported with a reason, and nothing of it is left', async () => {
  cluster = await TestCluster.start();
  const { session } = await cluster.json<SessionDocument>(['session', 'create', '--name', 'doomed', 'python']);
  await cluster.kill();
  // The end of one takes others along: who was there when they were looked for may be gone.
  await waitFor(() => {
    const { processes } = cluster!.remains();
    for (const pid of processes) process.kill(Number(pid), 'SIGKILL');
    return processes.length === 0;
  });
  await cluster.up();
  await waitFor(async () => {
    const info = await cluster?.json<SessionDocument>(['session', 'info', session.id]);
    return info?.session.status === 'TERMINATED' && /^[a-z-]+$/.test(info.session.reason.code);
  });
  await waitFor(() => cluster?.remains().scratch.length === 0);
});

async function filesOf(session: string): Promise<string[]> {
  const listed = await cluster?.json<{ files: Array<{ filename: string }> }>(['session', 'ls', session]);
  return listed?.files.map((file) => file.filename) ?? [];
}

test(
  'kill -9 at any moment of starting sessions leaves none stuck',
  async () => {
    cluster = await TestCluster.start();
    // Each round is another moment; `./scripts/test.sh --soak` tries many.
    for (let round = 0; round < (process.env.SOAK ? 25 : 3); round++) {
      const creating = [0, 1].map((i) =>
        cluster?.cli([
          'session',
          'create',
          '--enqueue-only',
          '--name',
          `storm-${round}-${i}`,
          '-r',
          'cpu=0.01',
          'shell',
        ]),
      );
      await Promise.race(creating);
      await cluster.kill();
      await Promise.all(creating);
      await cluster.up();
      await waitFor(async () => {
        const listed = await cluster?.json<{ sessions: Array<{ status: string }> }>(['ps']);
        return listed?.sessions.every((session) => session.status === 'RUNNING') ?? false;
      });
    }
  },
  process.env.SOAK ? 900_000 : 180_000,
);

test('Ctrl-C and down end the sessions unless told to keep them', async () => {
  cluster = await TestCluster.start(['--keep-sessions']);
  await cluster.json(['session', 'create', '--name', 'kept-one', 'shell']);
  await cluster.json(['session', 'exec', 'kept-one', '-c', 'x=here']);
  await cluster.interrupt();
  expect(cluster.remains().processes.length).toBeGreaterThan(0);
  await cluster.up();
  expect((await cluster.cli(['down', '--keep-sessions'])).code).toBe(0);
  expect(cluster.remains().processes.length).toBeGreaterThan(0);
  await cluster.up();
  const kept = await cluster.json<{ stdout: string }>(['session', 'exec', 'kept-one', '-c', 'echo $x']);
  expect(kept.stdout).toBe('here\n');
  await cluster.interrupt();
  expect(cluster.remains()).toEqual({ processes: [], ports: [], scratch: [] });
  await cluster.up();
  const info = await cluster.json<{ sessions: Array<{ status: string; reason: { code: string } }> }>(['ps', '--all']);
  expect(info.sessions[0]).toMatchObject({ status: 'TERMINATED', reason: { code: 'cluster-shutdown' } });
});
