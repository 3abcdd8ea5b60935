import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SessionExplanation, SessionIdleView, UsageReport } from '@backend.ai/contract';
import { waitFor } from '@backend.ai/testing';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { TestCluster } from './support/cluster.ts';

/** Who waits, why, and what helps, in a real cluster, on the command line only. */
let cluster: TestCluster;
let folder: string;
/** Of the one agent. */
let cores: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'scheduling-'));
  cluster = await TestCluster.start();
  cores = (await json<{ capacity: { cpu: string } }>('status')).capacity.cpu;
});
afterAll(async () => {
  await cluster?.stop();
  rmSync(folder, { recursive: true, force: true });
});
afterEach(async () => {
  for (const { name } of (await json<{ sessions: Session[] }>('ps')).sessions) await json(`session destroy ${name}`);
});

interface Session {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly result: string;
}

const json = <T>(line: string): Promise<T> => cluster.json<T>(line.split(' '));
const create = async (name: string, rest: string): Promise<Session> =>
  (await json<{ session: Session }>(`session create shell --name ${name} -r mem=64m ${rest}`)).session;
const explain = async (name: string): Promise<SessionExplanation> =>
  (await json<{ explanation: SessionExplanation }>(`session explain ${name}`)).explanation;

/** What is said of a waiting session once this is the first reason. */
const waits = (name: string, code: string): Promise<NonNullable<SessionExplanation['waiting']>> =>
  waitFor(
    async () => {
      const { waiting } = await explain(name);
      return waiting?.reasons[0]?.code === code && waiting;
    },
    { intervalMs: 200, what: `${name} waits for ${code}` },
  );

test('a session too many waits, its explanation names who would have to end, and then it starts', async () => {
  const greedy = await create('greedy', `-r cpu=${cores}`);
  await create('patient', '-r cpu=1 --enqueue-only');
  const { ways, agents, position } = await waits('patient', 'insufficient-resources');
  expect({ position, total: agents.total, open: agents.open }).toEqual({ position: 1, total: 1, open: 0 });
  expect(ways).toContainEqual([
    expect.objectContaining({
      kind: 'wait-for-sessions',
      facts: { sessions: { known: [{ id: greedy.id, name: 'greedy' }], others: 0 } },
    }),
  ]);

  await json('session destroy greedy');
  expect(await json('session wait patient')).toMatchObject({ session: { status: 'RUNNING' } });
  expect(await explain('patient')).toMatchObject({ waiting: null, placement: { decisions: [{ suitable: 1 }] } });
});

test('a session beyond a limit waits, and starts once the limit is raised to what its explanation says', async () => {
  const policy = 'admin keypair-resource-policy update default --max-concurrent-sessions';
  await json(`${policy} 1`);
  await create('only', '-r cpu=1');
  await create('beyond', '-r cpu=1 --enqueue-only');
  const { ways } = await waits('beyond', 'quota-exceeded');
  const raise = ways.flat().find((change) => change.kind === 'raise-quota');
  expect(raise?.facts).toMatchObject({ scope: 'keypair', slot: 'sessions', limit: '1', to: '2' });

  await json(`${policy} ${raise!.facts.to}`);
  expect(await json('session wait beyond')).toMatchObject({ session: { status: 'RUNNING' } });
});

test('a job waits for the one that it depends on, and runs when that ended with success', async () => {
  const job = (name: string, command: string, ...rest: string[]): Promise<unknown> => {
    const wants = ['session', 'create', 'shell', '--type', 'batch', '--name', name, '-r', 'cpu=1', '-r', 'mem=64m'];
    return cluster.json([...wants, '-c', command, ...rest]);
  };
  await job('first', 'until [ -e go ]; do sleep 0.1; done; echo gone');
  await job('then', 'echo it was', '--depends', 'first', '--enqueue-only');
  expect((await waits('then', 'dependency-unfinished')).reasons[0]).toMatchObject({
    data: { sessions: { known: [{ name: 'first' }] } },
  });

  const go = join(folder, 'go');
  writeFileSync(go, '');
  await json(`session upload first ${go}`);
  expect(await json('session wait then --until ended')).toMatchObject({
    session: { status: 'TERMINATED', result: 'success' },
  });
  expect((await cluster.cli(['session', 'info', 'then'])).stdout).toMatch(/^exit code +0$/m);
});

test('what is simulated with the exported snapshot is what the manager does', async () => {
  const greedy = await create('greedy', `-r cpu=${cores}`);
  // With the least priority: the first of the queue loses none while the commands take their time.
  const early = await create('early', `-r cpu=${cores} --priority 0 --enqueue-only`);
  const late = await create('late', `-r cpu=${cores} --priority 0 --enqueue-only`);
  await waits('early', 'insufficient-resources');
  await waits('late', 'behind-head-of-line');
  const file = join(folder, 'snapshot.json');
  const exported = await json<{ requestId: string; agents: object[]; running: Session[] }>('mgr scheduler snapshot');
  expect(exported.requestId).toMatch(/^[A-Za-z0-9._:-]+$/);
  writeFileSync(file, JSON.stringify(exported));
  interface Plan {
    readonly placements: ReadonlyArray<{ readonly sessionId: string }>;
    readonly reasons: Record<string, { readonly code: string }>;
  }
  expect((await json<Plan>(`mgr simulate ${file}`)).reasons).toMatchObject({
    [early.id]: { code: 'insufficient-resources' },
    [late.id]: { code: 'behind-head-of-line' },
  });

  // As it will be when the one that runs has ended.
  expect(exported.running).toMatchObject([{ sessionId: greedy.id }]);
  const agents = exported.agents.map((agent) => ({ ...agent, used: {}, kernelCount: 0 }));
  writeFileSync(file, JSON.stringify({ ...exported, agents, running: [] }));
  const placed = async (policy: string): Promise<string[]> =>
    (await json<Plan>(`mgr simulate ${file} --policy ${policy}`)).placements.map(({ sessionId }) => sessionId);
  expect(await placed('fifo')).toEqual([early.id]);
  expect(await placed('lifo')).toEqual([late.id]);

  await json('admin scaling-group update default --scheduler lifo');
  await json('session destroy greedy');
  await json('session wait late');
  expect((await waits('early', 'insufficient-resources')).policy).toBe('lifo');
  await json('admin scaling-group update default --scheduler fifo');
});

test('what idle checkers say of a session, and what it used, is told', async () => {
  const { id } = await create('used', '-r cpu=1');
  const { idle } = await json<{ idle: SessionIdleView }>('session idle used');
  expect(idle.checks.map(({ checker, verdict }) => [checker, verdict])).toEqual([
    ['network_timeout', 'excluded'],
    ['session_lifetime', 'excluded'],
    ['utilization', 'excluded'],
  ]);
  await json('mgr etcd put config/idle/enabled network_timeout');
  const judged = await waitFor(
    async () => {
      const { checks } = (await json<{ idle: SessionIdleView }>('session idle used')).idle;
      return checks.find(({ checker, verdict }) => checker === 'network_timeout' && verdict !== 'excluded');
    },
    { intervalMs: 500, what: 'the checker is switched on' },
  );
  expect(['unknown', 'active']).toContain(judged.verdict);
  await json('mgr etcd delete config/idle/enabled');

  await json('session destroy used');
  await json('session wait used --until ended');
  const { usage } = await json<{ usage: UsageReport }>('usage --by session');
  const row = usage.rows.find((each) => each.id === id);
  expect(Number(row?.used.cpu)).toBeGreaterThan(0);
  expect(Number(row?.used.mem)).toBeCloseTo(Number(row?.used.cpu) * 64 * 2 ** 20, 0);
});
