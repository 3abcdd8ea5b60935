import type { UserActor } from '@backend.ai/contract';
import { systemClock } from '@backend.ai/core';
import { SchedulingState, type Snapshot } from '@backend.ai/scheduler';
import { expect, it } from 'vitest';
import { ExplainService, type ExplainServiceOptions } from './explain-service.ts';

const owner = { keypair: 'k', user: 'u', project: 'p', domain: 'd' };
const slots = { cpu: 4000n };
const snapshot: Snapshot = {
  now: 0,
  groups: [{ name: 'g', preemption: { enabled: true } }],
  agents: [
    {
      id: 'a',
      resourceGroup: 'g',
      architecture: 'x',
      status: 'ALIVE',
      schedulable: true,
      images: ['x i'],
      capacity: slots,
      used: slots,
      kernelCount: 1,
    },
  ],
  pending: [
    {
      sessionId: 'urgent',
      resourceGroup: 'g',
      owner,
      createdAt: 0,
      priority: 10,
      jobPriority: 5,
      kernels: [{ kernelId: 'k2', role: 'main', index: 1, slots, image: 'i', architecture: 'x' }],
    },
  ],
  running: [
    {
      sessionId: 'victim',
      resourceGroup: 'g',
      owner,
      startedAt: 0,
      kernels: [{ kernelId: 'k1', agentId: 'a', slots }],
    },
  ],
  quotas: [],
  fairShares: [],
};

it('what takes the place of others with the next pass is told so, with their names', async () => {
  const record = { id: 'urgent', name: 'urgent-job', status: 'PENDING', statusReason: 'queued', statusData: {} };
  const service = new ExplainService({
    sessions: { find: async () => record },
    rows: { historyWithReasons: async () => [] },
    queue: {
      mentioned: async (ids: readonly string[]) =>
        new Map(ids.map((id) => [id, { id, name: `name of ${id}`, userId: 'u', domain: 'd' }])),
    },
    known: () => new SchedulingState(snapshot),
    read: async () => snapshot,
    clock: systemClock,
  } as unknown as ExplainServiceOptions);
  const actor = { userId: 'u', domain: 'd', role: 'user' } as UserActor;
  const { headline, waiting } = await service.explain('urgent', actor);
  expect(headline).toBe(
    'urgent-job takes the place of others with the next pass of the scheduler, once they have left.',
  );
  const sessions = { known: [{ id: 'victim', name: 'name of victim' }], others: 0 };
  expect(waiting?.preemption).toEqual({
    mode: 'terminate',
    byNextPass: true,
    from: null,
    sessions,
    agents: [{ agent: null, placed: 1, ended: 1, sessions }],
  });
});
