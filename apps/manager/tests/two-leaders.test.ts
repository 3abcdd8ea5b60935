import type { Leases } from '@backend.ai/coordination';
import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { expect, it, onTestFinished } from 'vitest';
import type { SessionChange } from '../src/index.ts';
import { createWorld } from './world.ts';

/** As for a process that was paused: it does not learn that its lease is over. */
const unaware = (real: Leases): Leases => ({
  async acquire(...args) {
    const lease = await real.acquire(...args);
    return lease && { ...lease, renew: async () => true };
  },
});

it('a manager that still believes that it leads schedules nothing, and agents take no order from it', async () => {
  const world = await createWorld({ leases: unaware });
  onTestFinished(() => world.close());
  const agent = await world.addAgent('i-one', { slots: { cpu: '16', mem: '8589934592' } });
  const first = world.manager.services;
  await world.until((await world.create()).id, 'RUNNING');
  const { services: second } = (await world.addManager({ takesOver: true })).manager;
  const [old, now] = [first.leaderEpoch() ?? 0, second.leaderEpoch() ?? 0];
  expect(now).toBeGreaterThan(old);
  expect(old).toBeGreaterThan(0);

  // With this order the agent has heard of the new term.
  await world.until((await world.create()).id, 'RUNNING');
  const byFirst: SessionChange[] = [];
  const stop = first.onSessionChange((change) => byFirst.push(change));
  agent.createCalls.length = 0;
  // Each is queued in its memory, and it is hinted at once.
  const created = [];
  for (let count = 0; count < 5; count++) created.push((await world.create()).id);
  created.push((await world.create({ clusterSize: 3 })).id);
  for (const id of created) await world.until(id, 'RUNNING');
  expect(byFirst.filter(({ to }) => to === 'SCHEDULED')).toEqual([]);
  // One that was not answered in time is given again.
  expect(new Set(agent.createCalls.map(({ kernelId }) => kernelId)).size).toBe(5 + 3);
  expect(new Set(agent.createCalls.map(({ epoch }) => epoch))).toEqual(new Set([now]));

  await runWithRequest({ requestId: newId() }, () => first.endAllSessions('user-requested', 60_000));
  stop();
  expect(agent.destroyCalls.length).toBeGreaterThan(0);
  expect(agent.destroyCalls.filter(({ epoch }) => epoch !== now)).toEqual([]);
  expect(await first.verifyLedger()).toEqual([]);
});
