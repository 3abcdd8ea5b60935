import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { runCommands } from '@backend.ai/cli-kit';
import { newRequestId } from '@backend.ai/core';
import { imageKey, type PendingSession, type Snapshot, serialiseSnapshot } from '@backend.ai/scheduler';
import { makeTempDirectory } from '@backend.ai/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SimulateCommand } from './simulate.ts';

const session = (sessionId: string, cpu: bigint, createdAt: number): PendingSession => ({
  sessionId,
  resourceGroup: 'default',
  owner: { keypair: 'k', user: 'u', project: 'p', domain: 'd' },
  kernels: [
    { kernelId: `k-${sessionId}`, role: 'main', index: 1, slots: { cpu }, image: 'python', architecture: 'x86_64' },
  ],
  createdAt,
  priority: 10,
});

const snapshot: Snapshot = {
  now: 1_000,
  groups: [],
  agents: [
    {
      id: 'i-one',
      status: 'ALIVE',
      schedulable: true,
      resourceGroup: 'default',
      architecture: 'x86_64',
      images: [imageKey('python', 'x86_64')],
      capacity: { cpu: 4_000n },
      used: { cpu: 1_000n },
    },
  ],
  pending: [session('first', 2_000n, 1), session('second', 4_000n, 2), session('third', 1_000n, 3)],
  running: [],
  quotas: [],
  fairShares: [],
};

let directory: Awaited<ReturnType<typeof makeTempDirectory>>;
beforeAll(async () => {
  directory = await makeTempDirectory();
  await writeFile(join(directory.path, 'snapshot.json'), serialiseSnapshot(snapshot));
});
afterAll(() => directory.remove());

async function run(...words: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const context = {
    stdin: Readable.from([serialiseSnapshot(snapshot)]),
    stdout,
    stderr,
    env: {},
    colorDepth: 1,
    cwd: directory.path,
    requestId: newRequestId(),
    onInterrupt: () => () => undefined,
  };
  const code = await runCommands([SimulateCommand], ['mgr', 'simulate', ...words], context);
  return { code, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
}

describe('mgr simulate', () => {
  it('shows what starts where and why the others wait, the same each time', async () => {
    const { code, stdout } = await run('snapshot.json');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^first +starts +i-one$/m);
    expect(stdout).toMatch(/^second +waits: insufficient-resources/m);
    expect(stdout).toMatch(/^third +waits: behind-head-of-line/m);
    expect((await run('snapshot.json')).stdout).toBe(stdout);
  });

  it('reads standard input where the file is a dash', async () => {
    expect((await run('-')).stdout).toBe((await run('snapshot.json')).stdout);
  });

  it('orders the queue by another policy when asked', async () => {
    const { stdout } = await run('snapshot.json', '--policy', 'lifo', '--json');
    const plan = JSON.parse(stdout) as { placements: Array<{ sessionId: string }>; reasons: Record<string, unknown> };
    expect(plan.placements.map(({ sessionId }) => sessionId)).toEqual(['third']);
    expect(Object.keys(plan.reasons)).toEqual(['second', 'first']);
  });

  it.each([
    ['concentrated', 'i-one'],
    ['dispersed', 'i-two'],
    ['legacy', 'i-two'],
    ['roundrobin', 'i-one'],
  ])('chooses among agents by %s when asked, whatever the snapshot says', async (selection, agent) => {
    const [one] = snapshot.agents;
    const agents = [one!, { ...one!, id: 'i-two', used: {} }];
    const other = selection === 'dispersed' ? 'concentrated' : 'dispersed';
    const groups = [{ name: 'default', selection: other } as const];
    const [first] = snapshot.pending;
    await writeFile(
      join(directory.path, 'agents.json'),
      serialiseSnapshot({ ...snapshot, agents, groups, pending: [first!] }),
    );
    const { stdout } = await run('agents.json', '--selection', selection, '--json');
    expect(JSON.parse(stdout)).toMatchObject({ placements: [{ sessionId: 'first', kernels: [{ agentId: agent }] }] });
  });

  it('takes the document of --json for a snapshot, and has an id in its own', async () => {
    const document = { requestId: 'r-1', ...(JSON.parse(serialiseSnapshot(snapshot)) as object) };
    await writeFile(join(directory.path, 'document.json'), JSON.stringify(document));
    const { code, stdout } = await run('document.json', '--json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ requestId: expect.any(String), placements: [{ sessionId: 'first' }] });
  });

  it('tells what would let one session start', async () => {
    const { stdout } = await run('snapshot.json', '--explain', 'second');
    expect(stdout).toContain('2 of 3 in default (fifo)');
    expect(stdout).toContain('if it asked for 1 cpu instead of 4 cpu');
  });

  it('tells who would have to leave for a session', async () => {
    const groups = [{ name: 'default', preemption: { enabled: true } }];
    const { owner } = session('first', 1n, 1);
    const kernels = [{ kernelId: 'k-r', agentId: 'i-one', slots: { cpu: 1_000n } }];
    const running = [{ sessionId: 'modest', resourceGroup: 'default', owner, kernels, startedAt: 0 }];
    const pending = [{ ...session('urgent', 4_000n, 1), jobPriority: 1 }];
    await writeFile(join(directory.path, 'crowded.json'), serialiseSnapshot({ ...snapshot, groups, running, pending }));
    const { stdout } = await run('crowded.json', '--explain', 'urgent');
    expect(stdout).toContain('With the next pass, these would be ended for it:');
    expect(stdout).toMatch(/^i-one +1 +1 +modest$/m);
  });

  it.each([
    [['snapshot.json', '--policy', 'newest'], 'Choose one of fifo, lifo, drf, fair-share.'],
    [['snapshot.json', '--selection', 'best'], 'Choose one of concentrated, dispersed, roundrobin, legacy.'],
    [['absent.json'], 'absent.json cannot be read.'],
    [['snapshot.json', '--explain', 'nobody'], 'No session nobody waits in the snapshot.'],
  ])('refuses %j with the next step', async (words, text) => {
    const { code, stderr } = await run(...words);
    expect(code).toBe(1);
    expect(stderr).toContain(text);
  });
});
