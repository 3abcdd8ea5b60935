import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SessionStatisticsView } from '@backend.ai/client';
import { type FakeApi, type FakeSession, startFakeApi } from '@backend.ai/client/testing';
import { afterEach, beforeEach, expect, it, onTestFinished } from 'vitest';
import { runCli } from '../../testing/run-cli.ts';

const metric = (unit: string, current: number, capacity: number | null = null) => ({
  ...{ unit, current, capacity, min: 0, max: current, sum: current, avg: current, diff: 0, rate: 0 },
});
const kernel: SessionStatisticsView['kernels'][number] = {
  ...{ kernelId: 'k', role: 'main', index: 1, agent: 'a', measuredAt: '2030-01-01T00:01:00.000Z' },
  cpu: { usedMs: 1_500, percent: 50, averagePercent: 25, capacityPercent: 200 },
  memory: { bytes: 1024 ** 2, peakBytes: 2 * 1024 ** 2, averageBytes: 1, capacityBytes: 1024 ** 3 },
  metrics: { io_read: metric('bytes', 4_096), io_write: metric('bytes', 0), cuda_util: metric('percent', 30, 100) },
  series: [0, 15, 30].map((second) => ({
    ...{ at: `2030-01-01T00:00:${String(second).padStart(2, '0')}.000Z`, cpuPercent: second, memoryBytes: 1024 ** 2 },
  })),
  overall: { attempts: 2, cpuUsedMs: 4_000, memoryPeakBytes: 4 * 1024 ** 2 },
};

let api: FakeApi;
let session: FakeSession;
beforeEach(async () => {
  api = await startFakeApi();
  await runCli(['session', 'create', '--name', 'work', 'python'], { api });
  session = [...api.sessions.values()][0] as FakeSession;
  session.use = [kernel];
});
afterEach(() => api[Symbol.asyncDispose]());

it('shows what each kernel uses, with little bars of the time before, and its accelerators', async () => {
  const { stdout } = await runCli(['session', 'stats', 'work'], { api });
  expect(stdout).toMatch(/^main1 +50\.0% +▁▅█ +25\.0% +200\.0% +1\.5 s +1m +2m +1g +4k\/0 +-\/- +- +2030/m);
  expect(stdout).toContain('In all 2 attempts of main1: cpu time 4.0 s, memory peak 4m');
  expect(stdout).toMatch(/^main1 +cuda_util +30 percent$/m);
  expect((await runCli(['session', 'stats', 'work', '--json'], { api })).json).toMatchObject({
    stats: { kernels: [{ metrics: { io_read: { current: 4_096 } } }] },
  });
});

it('shows it again and again until the session has ended', async () => {
  let looks = 0;
  api.fault = (line) => {
    if (line.includes('session.wait') && ++looks === 3) session.enter('TERMINATED', 'user-requested', 'Over.');
    return undefined;
  };
  const { stdout, exitCode } = await runCli(['session', 'stats', 'work', '--watch', '--json'], { api });
  expect(exitCode).toBe(0);
  const documents = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(documents).toHaveLength(4);
  expect(documents[0]).toMatchObject({ stats: { name: 'work' } });
});

it('stops watching with Ctrl-C', async () => {
  const watching = runCli(['session', 'stats', 'work', '--watch'], {
    api,
    onStart: (interrupt) => {
      api.fault = (line) => {
        if (line.includes('session.wait')) setImmediate(interrupt);
        return undefined;
      };
    },
  });
  expect((await watching).exitCode).toBe(0);
});

it('draws the time before as a picture', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'stats-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const { stdout } = await runCli(['session', 'stats', 'work', '--plot', 'use.svg'], { api, cwd: folder });
  expect(stdout).toBe(`${join(folder, 'use.svg')}\n`);
  const svg = await readFile(join(folder, 'use.svg'), 'utf8');
  expect(svg).toContain('use of work');
  expect(svg).toContain('% of a core');
});
