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

test('a session outlives a kill -9 of the cluster: state, files and a run in progress are there after up', async () => {
  cluster = await TestCluster.start();
  const name = ['--name', 'survivor'];
  const created = await cluster.json<SessionDocument>(['session', 'create', ...name, 'python']);
  await cluster.json(['session', 'exec', 'survivor', '-c', 'x = 41; open("kept.txt", "w").write("kept")']);
  const code = [
    'import os, time',
    'open("began", "w").close()',
    'while not os.path.exists("go"): time.sleep(0.01)',
    'x += 1',
  ].join('\n');
  const running = cluster.cli(['session', 'exec', 'survivor', '-c', code]);
  await waitFor(
    async () => {
      const files = await cluster?.json<{ files: Array<{ filename: string }> }>(['session', 'ls', 'survivor']);
      return files?.files.some((file) => file.filename === 'began') ?? false;
    },
    { timeoutMs: 30_000 },
  );

  await cluster.kill();
  const interrupted = await running;
  expect(interrupted.code).not.toBe(0);
  expect(interrupted.stderr).toMatch(/[Rr]equest id/);
  await cluster.up();

  const info = await cluster.json<SessionDocument>(['session', 'info', 'survivor']);
  expect(info.session).toMatchObject({ id: created.session.id, status: 'RUNNING' });
  // Files go through the agent, so the loop can be ended while it runs.
  await cluster.json(['session', 'upload', 'survivor', '/dev/null', '--dst', 'go']).catch(async () => {
    await cluster?.json(['session', 'upload', 'survivor', new URL(import.meta.url).pathname, '--dst', 'go']);
  });
  const after = await cluster.json<{ stdout: string }>(['session', 'exec', 'survivor', '-c', 'x']);
  expect(after.stdout.trim()).toBe('42');
});

test('a kernel that died while the cluster was down is reported with a reason, and nothing of it is left', async () => {
  cluster = await TestCluster.start();
  const { session } = await cluster.json<SessionDocument>(['session', 'create', '--name', 'doomed', 'python']);
  await cluster.json(['session', 'exec', 'doomed', '-c', 'import threading, os, time']);
  const ends = 'threading.Thread(target=lambda: (time.sleep(1.5), os._exit(9)), daemon=True).start()';
  await cluster.json(['session', 'exec', 'doomed', '-c', ends]);
  await cluster.kill();
  await waitFor(() => cluster?.remains().processes.length === 0, { timeoutMs: 20_000 });
  await cluster.up();
  await waitFor(
    async () => {
      const info = await cluster?.json<SessionDocument>(['session', 'info', session.id]);
      return (
        info !== undefined && ['TERMINATED', 'ERROR'].includes(info.session.status) && info.session.reason.code !== ''
      );
    },
    { timeoutMs: 30_000 },
  );
  await waitFor(() => cluster?.remains().scratch.length === 0, { timeoutMs: 10_000 });
});

test('kill -9 at any moment of starting sessions leaves none stuck', async () => {
  cluster = await TestCluster.start();
  for (const round of [0, 1, 2]) {
    const creating = [0, 1].map((i) =>
      cluster?.cli(['session', 'create', '--enqueue-only', '--name', `storm-${round}-${i}`, '-r', 'cpu=0.1', 'shell']),
    );
    await Promise.race(creating);
    await cluster.kill();
    await Promise.all(creating);
    await cluster.up();
    await waitFor(
      async () => {
        const listed = await cluster?.json<{ sessions: Array<{ status: string }> }>(['ps']);
        return listed?.sessions.every((session) => session.status === 'RUNNING') ?? false;
      },
      { timeoutMs: 60_000 },
    );
  }
});

test('down ends the sessions unless told to keep them', async () => {
  cluster = await TestCluster.start();
  await cluster.json(['session', 'create', '--name', 'kept-one', 'shell']);
  await cluster.json(['session', 'exec', 'kept-one', '-c', 'x=here']);
  expect((await cluster.cli(['down', '--keep-sessions'])).code).toBe(0);
  expect(cluster.remains().processes.length).toBeGreaterThan(0);
  await cluster.up();
  const kept = await cluster.json<{ stdout: string }>(['session', 'exec', 'kept-one', '-c', 'echo $x']);
  expect(kept.stdout).toBe('here\n');
  expect((await cluster.cli(['down'])).code).toBe(0);
  expect(cluster.remains()).toEqual({ processes: [], scratch: [] });
  await cluster.up();
  const info = await cluster.json<{ sessions: Array<{ status: string; reason: { code: string } }> }>(['ps', '--all']);
  expect(info.sessions[0]).toMatchObject({ status: 'TERMINATED', reason: { code: 'cluster-shutdown' } });
});
