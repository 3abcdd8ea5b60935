import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProjectUsage, UsageReport } from '@backend.ai/client';
import { type FakeApi, startFakeApi } from '@backend.ai/client/testing';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { runCli } from '../../testing/run-cli.ts';

const rows: UsageReport['rows'] = [
  {
    period: '2025-01-01T00:00:00.000Z',
    id: 'u-1',
    name: '=cmd("x"), inc',
    sessions: 2,
    used: { cpu: '7200.5', mem: String(3600 * 1024 ** 3) },
    measured: { cpuSeconds: 1_800, memoryPeakBytes: 512 * 1024 ** 2, cudaSeconds: 900 },
  },
  {
    period: '2025-01-02T00:00:00.000Z',
    id: 'u-2',
    name: 'b@example.com',
    sessions: 1,
    used: { 'cuda.device': '1800' },
  },
];

const project: ProjectUsage = {
  id: '11111111-1111-4111-8111-111111111111',
  name: 'lab',
  domain: 'ours',
  kernels: [
    {
      kernelId: '22222222-2222-4222-8222-222222222222',
      sessionId: '33333333-3333-4333-8333-333333333333',
      sessionName: 'demo',
      accessKey: 'AKIADEMO',
      email: null,
      fullName: null,
      agent: 'i-one',
      image: null,
      clusterMode: null,
      slots: { cpu: '2', mem: '1024' },
      sharedMemoryBytes: 0,
      beganAt: '2025-01-02T00:00:00.000Z',
      endedAt: null,
      status: 'RUNNING',
      reason: null,
      history: {},
      metrics: {},
    },
  ],
};

let api: FakeApi;
let asked: unknown;
let answer = rows;
beforeAll(async () => {
  api = await startFakeApi({
    role: 'superadmin',
    services: {
      usage: {
        report: async (input) => {
          asked = input;
          const { by, period } = input;
          return { from: '2025-01-01T00:00:00.000Z', to: '2025-01-04T00:00:00.000Z', by, period, rows: answer };
        },
        projects: async (input) => {
          asked = input;
          return [project];
        },
      },
    },
  });
});
afterAll(() => api[Symbol.asyncDispose]());

it('usage is one’s own, as a table of hours', async () => {
  const { stdout, exitCode } = await runCli(['usage', '--from', '2025-01-01', '--to', '2025-01-03'], { api });
  expect(exitCode).toBe(0);
  expect(asked).toMatchObject({
    user: 'user@example.com',
    by: 'project',
    period: 'whole',
    to: '2025-01-03T00:00:00.000Z',
  });
  const [head, first, second] = stdout.split('\n');
  expect(head?.split(/ {2,}/)).toEqual([
    ...['PROJECT', 'SESSIONS', 'CPU HOURS', 'MEM HOURS', 'CUDA.DEVICE HOURS'],
    ...['CPU USED HOURS', 'MEMORY PEAK', 'CUDA BUSY HOURS'],
  ]);
  expect(first).toMatch(/2 +2\.00 +1\.00 GiB +0\.00 +0\.50 +512m +0\.25$/);
  expect(second).toMatch(/1 +0\.00 +0\.00 GiB +0\.50 +- +- +-$/);
});

it('the CSV has exact amounts times seconds, and no name that a spreadsheet would calculate', async () => {
  const { stdout } = await runCli(['usage', '--csv', '--period', 'day', '--by', 'user'], { api });
  expect(stdout.split('\r\n')).toEqual([
    'period_begin,period_end,user_id,user,sessions,held_cpu_seconds,held_mem_byte_seconds,held_cuda.device_seconds,' +
      'used_cpu_seconds,peak_memory_bytes,busy_cuda_seconds',
    `2025-01-01T00:00:00.000Z,2025-01-02T00:00:00.000Z,u-1,"'=cmd(""x""), inc",2,7200.5,${3600 * 1024 ** 3},0,1800,${512 * 1024 ** 2},900`,
    '2025-01-02T00:00:00.000Z,2025-01-03T00:00:00.000Z,u-2,b@example.com,1,0,0,1800,,,',
    '',
  ]);
});

it('the JSON is the report', async () => {
  expect((await runCli(['usage', '--json'], { api })).json).toMatchObject({ usage: { by: 'project', rows } });
});

it('the picture has a place for each period, also without use, and names who is shown', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'usage-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const { exitCode, stdout } = await runCli(['usage', '--plot', 'usage.svg', '--slot', 'cpu'], { api, cwd: folder });
  expect([exitCode, stdout]).toEqual([0, `${join(folder, 'usage.svg')}\n`]);
  expect(asked).toMatchObject({ period: 'day' });
  const svg = await readFile(join(folder, 'usage.svg'), 'utf8');
  expect(svg).toMatch(/^<svg /);
  for (const text of ['2025-01-01', '2025-01-02', '2025-01-03', 'b@example.com', 'cpu hours'])
    expect(svg).toContain(text);
  expect(svg).not.toContain('<script');
});

it.each([
  ['usage --plot absent/x.svg', '[invalid-path]', 'its folder does not exist'],
  ['usage --plot .', '[invalid-path]', 'that is a folder'],
  ['usage --plot x.svg --slot nope', '[unknown-slot]', 'cpu, mem, cuda.device'],
  ['usage --plot x.svg --period minute', '--period takes one of', 'minute'],
])('no picture is drawn where that goes wrong: %s', async (line, ...words) => {
  const folder = await mkdtemp(join(tmpdir(), 'usage-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const { exitCode, stdout, stderr } = await runCli(line.split(' '), { api, cwd: folder });
  expect([exitCode > 0, stdout]).toEqual([true, '']);
  for (const word of words) expect(stderr).toContain(word);
  expect(await readdir(folder)).toEqual([]);
});

it('says so when nothing was used, and what is wrong with an option', async () => {
  answer = [];
  onTestFinished(() => {
    answer = rows;
  });
  expect((await runCli(['usage'], { api })).stdout).toBe('Nothing was used in this time.\n');
  const wrong = await runCli(['usage', '--by', 'colour'], { api });
  expect([wrong.exitCode, wrong.stderr]).toEqual([2, expect.stringContaining('--by takes one of')]);
  expect((await runCli(['usage', '--from', 'yesterday'], { api })).exitCode).toBe(2);
});

it('usage of projects is shown kernel by kernel, of a month or of days', async () => {
  const month = await runCli(['admin', 'resource', 'usage-per-month', '202412', '--projects', project.id], { api });
  expect(asked).toEqual({
    from: '2024-12-01T00:00:00.000Z',
    to: '2025-01-01T00:00:00.000Z',
    projects: [project.id],
  });
  const [head = '', first = ''] = month.stdout.split('\n').map((line) => line.split(/ {2,}/));
  expect([head[0], head[2], head[5]]).toEqual(['DOMAIN', 'SESSION', 'HELD']);
  expect(first).toEqual(expect.arrayContaining(['ours', 'lab', 'demo', 'AKIADEMO', 'cpu=2,mem=1024']));
  const line = ['admin', 'resource', 'usage-per-period', project.id, '20250131', '20250131', '--json'];
  expect((await runCli(line, { api })).json).toMatchObject({ projects: [project] });
  expect(asked).toMatchObject({ from: '2025-01-31T00:00:00.000Z', to: '2025-02-01T00:00:00.000Z' });
});

it.each(['admin resource usage-per-month 202513', 'admin resource usage-per-period p 20250102 20250101'])(
  'tells wrong usage: %s',
  async (line) => {
    expect((await runCli(line.split(' '), { api })).exitCode).toBe(2);
  },
);
