import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let agent: FakeAgent;
beforeAll(async () => {
  world = await createWorld();
  agent = await world.addAgent('i-jobs');
});
afterAll(() => world.close());

it('a batch session says that the disk of its agent was full while its job failed', async () => {
  const { id } = await world.create({ type: 'batch', startupCommand: 'make' });
  const { kernels } = await world.until(id, 'RUNNING');
  const end = { result: 'failure', exitCode: 2, reason: 'task-failed', diskFull: true } as const;
  agent.tell(kernels[0]?.id ?? '', { type: 'batch-finished', ...end });
  const reason = { code: 'disk-full', data: { exitCode: 2 } };
  expect(await world.until(id, 'TERMINATED')).toMatchObject({ result: 'failure', reason });
});

it('a batch session ends by what heartbeats tell when the event of its end was lost', async () => {
  const { id } = await world.create({ type: 'batch', startupCommand: 'make' });
  await world.until(id, 'RUNNING');
  await agent.flush();
  const beat = agent.takeHeartbeat();
  const batch = { result: 'failure', exitCode: 2, reason: 'task-failed' } as const;
  const kernels = beat.kernels.map((report) => ({ ...report, batch }));
  await runWithRequest({ requestId: newId() }, () => agent.api.heartbeat.mutate({ ...beat, kernels }));
  expect(await world.until(id, 'TERMINATED')).toMatchObject({ result: 'failure', reason: { code: 'task-failed' } });
});
