import type { KernelUsage, Metric, ProjectUsage, ProjectUsageInput, UsageApi } from '@backend.ai/contract';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { FakeWorld, TestServer } from './http-world.ts';

/** Usage of projects as official clients ask for it. */

const metric = (current: number, max: number): Metric => ({
  ...{ unit: 'bytes', current, max, capacity: null, min: 0, sum: 0, avg: 0, diff: 0, rate: 0 },
});
const ended: KernelUsage = {
  kernelId: '22222222-2222-4222-8222-222222222222',
  sessionId: '33333333-3333-4333-8333-333333333333',
  sessionName: 'demo',
  accessKey: 'AKIADEMO',
  email: 'a@ours.test',
  fullName: 'A B',
  agent: 'i-one',
  image: 'python',
  clusterMode: 'single-node',
  slots: { cpu: '2', mem: '1024', 'cuda.shares': '0.5', 'cuda.device': '1' },
  sharedMemoryBytes: 64,
  beganAt: '2025-01-02T23:00:00.500Z',
  endedAt: '2025-01-05T02:04:05.506Z',
  status: 'TERMINATED',
  reason: 'user-requested',
  history: { PENDING: '2025-01-02T23:00:00.000Z', TERMINATED: '2025-01-05T02:04:05.506Z' },
  metrics: { cpu_used: metric(1_500, 1_500), mem: metric(10, 20), io_read: metric(5, 5) },
};
const running: KernelUsage = {
  ...ended,
  endedAt: null,
  status: 'CREATING',
  slots: { cpu: '1' },
  history: {},
  metrics: {},
};
const project: ProjectUsage = {
  id: '11111111-1111-4111-8111-111111111111',
  name: 'lab',
  domain: 'ours',
  kernels: [ended, running],
};

let server: TestServer;
let asked: ProjectUsageInput | undefined;
beforeAll(async () => {
  const world = new FakeWorld();
  world.usage = {
    projects: async (input) => {
      asked = input;
      return [project];
    },
  } as Pick<UsageApi, 'projects'> as UsageApi;
  server = await TestServer.start(world);
});
afterAll(() => server.close());

test('a month is answered project by project, with each of their kernels', async () => {
  const body = { month: '202412', group_ids: [project.id] };
  const { json } = await server.request('/resource/usage/month', { body });
  expect(asked).toEqual({ from: '2024-12-01T00:00:00.000Z', to: '2025-01-01T00:00:00.000Z', projects: [project.id] });
  expect(json).toMatchObject([
    {
      ...{ domain_name: 'ours', g_id: project.id, g_name: 'lab', g_cpu_allocated: 3, g_cpu_used: 1_500 },
      ...{ g_mem_allocated: 1_024, g_mem_used: 20, g_shared_memory: 128, g_gpu_allocated: 1.5, g_io_read: 5 },
      ...{ g_io_write: 0, g_disk_allocated: 0, g_disk_used: 0, g_device_type: [], g_smp: 0, g_gpu_mem_allocated: 0 },
    },
  ]);
  expect(json[0].c_infos).toMatchObject([
    {
      ...{ id: ended.kernelId, session_id: ended.sessionId, name: 'demo', email: 'a@ours.test', agent: 'i-one' },
      ...{ cpu_allocated: 2, gpu_allocated: 1.5, used_time: '2 days, 3:04:05.006000', used_days: 4 },
      created_at: '2025-01-02 23:00:00.500000+00:00',
      ...{ terminated_at: '2025-01-05 02:04:05.506000+00:00', status_changed: '2025-01-05 02:04:05.506000+00:00' },
      ...{ image_name: 'python', status: 'TERMINATED', status_info: 'user-requested', cluster_mode: 'single-node' },
    },
    { terminated_at: 'None', used_time: null, used_days: null, status: 'PREPARING', cpu_used: 0 },
  ]);
});

test('a period includes its last day, and is answered in the words of earlier and of later clients', async () => {
  const query = 'start_date=20250101&end_date=20250131';
  const { json } = await server.request(`/resource/usage/period?${query}&group_id=${project.id}`);
  expect(asked).toEqual({ from: '2025-01-01T00:00:00.000Z', to: '2025-02-01T00:00:00.000Z', projects: [project.id] });
  expect(json).toMatchObject([
    { g_id: project.id, project_id: project.id, project_name: 'lab', total_usage: { cpu_used: 1_500, mem_used: 20 } },
  ]);
  await server.request(`/resource/usage/period?${query}`);
  expect(asked?.projects).toEqual([]);
});

test('projects come as a list, or as one text in a query', async () => {
  const other = '44444444-4444-4444-8444-444444444444';
  await server.request(`/resource/usage/month?month=202412&group_ids=${project.id},${other}`);
  expect(asked?.projects).toEqual([project.id, other]);
  await server.request('/resource/usage/month?month=202412&group_ids=');
  expect(asked?.projects).toEqual([]);
});

test.each([
  ['month?month=202413', 'month'],
  ['month', 'month'],
  ['month?month=202412&group_ids=lab', 'group_ids'],
  ['period?start_date=20250101&end_date=20250411', 'end_date'],
  ['period?start_date=20250102&end_date=20250101', 'end_date'],
  ['period?start_date=20250101&end_date=20250102&group_id=lab', 'group_id'],
])('%s is refused for %s', async (target, field) => {
  const { status, json } = await server.request(`/resource/usage/${target}`);
  expect([status, Object.keys(json.data)]).toEqual([400, [field]]);
});
