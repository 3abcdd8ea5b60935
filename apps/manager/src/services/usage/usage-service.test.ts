import { mostKernelRows, mostUsageRows, type UserActor } from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import { FakeClock } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import type { KernelUsageRecord } from '../../repositories/usage.ts';
import { type LiveMetrics, UsageService } from './usage-service.ts';

const actor = { role: 'superadmin', userId: newId(), domain: 'default' } as UserActor;
const month = { from: '2030-01-01T00:00:00Z', to: '2030-02-01T00:00:00Z' };
const metric = (current: number) => ({
  ...{ unit: 'msec', current, max: 0, min: 0, avg: 0, sum: 0, diff: 0, rate: 0, capacity: null },
});

const ended: KernelUsageRecord = {
  ...{ kernelId: newId(), sessionId: newId(), sessionName: 's', accessKey: 'AKIA', email: null, fullName: null },
  ...{ agent: 'agent-1', image: null, clusterMode: null, slots: { cpu: '1' }, sharedMemoryBytes: 0 },
  ...{ beganAt: '2030-01-01 00:00:00+00', endedAt: '2030-01-01 01:00:00+00', status: 'TERMINATED', reason: null },
  ...{ history: {}, metrics: { cpu_used: metric(1) } },
  ...{ projectId: newId(), projectName: 'lab', domain: 'default' },
};

function service(count: number, row: KernelUsageRecord = ended, live: LiveMetrics = { find: async () => undefined }) {
  const usage = {
    report: async () => [],
    unknownFilter: async () => undefined,
    kernels: async ({ limit }: { limit: number }) => Array.from({ length: Math.min(count, limit) }, () => row),
  };
  return new UsageService(usage, live, new FakeClock());
}

it('a month of more kernels than a report has rows is told whole', async () => {
  const [project] = await service(mostUsageRows + 1).projects(month, actor);
  expect(project).toMatchObject({ id: ended.projectId, name: 'lab', domain: 'default' });
  expect(project?.kernels).toHaveLength(mostUsageRows + 1);
});

it('of too many kernels it is said what to ask for instead', async () => {
  await expect(service(mostKernelRows + 1).projects(month, actor)).rejects.toMatchObject({
    code: 'invalid-input',
    hint: 'Name fewer projects, or a shorter time.',
    data: { fields: { projects: expect.any(String) } },
  });
});

it('what is measured now is asked for at once, of kernels that still run', async () => {
  let [underWay, most] = [0, 0];
  const live: LiveMetrics = {
    async find() {
      most = Math.max(most, ++underWay);
      await Promise.resolve();
      underWay--;
      return { metrics: { cpu_used: metric(2) } };
    },
  };
  const running = { ...ended, endedAt: null, status: 'RUNNING', metrics: null } as const;
  const [project] = await service(3, running, live).projects(month, actor);
  expect(project?.kernels.map(({ metrics }) => metrics.cpu_used?.current)).toEqual([2, 2, 2]);
  expect(most).toBe(3);
  await service(3, ended, live).projects(month, actor);
  expect(most).toBe(3);
});
