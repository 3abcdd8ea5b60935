import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let agent: FakeAgent;

beforeAll(async () => {
  world = await createWorld();
  agent = await world.addAgent('i-one');
});
afterAll(() => world.close());

const api = () => world.manager.services.api.session;

describe('a session', () => {
  it('runs soon after it was asked for, and every row has the id of that request', async () => {
    const requestId = newId();
    const created = await world.create({ name: 'first', resources: { cpu: 2, mem: '1g' } }, requestId);
    expect(created).toMatchObject({ status: 'PENDING', reason: { code: 'queued' }, requestId });
    const running = await api().wait({ session: 'first', until: 'running', timeoutMs: 60_000 }, world.ctx());
    expect(running).toMatchObject({
      status: 'RUNNING',
      requested: { cpu: '2', mem: '1073741824' },
      kernels: [{ agent: 'i-one', status: 'RUNNING' }],
      timings: { steps: [{ step: 'launch', ms: 1 }] },
    });
    const history = await api().history({ session: 'first' }, world.ctx());
    expect(history.map((entry) => entry.to)).toEqual(['PENDING', 'SCHEDULED', 'PREPARING', 'CREATING', 'RUNNING']);
    expect(new Set(history.map((entry) => entry.requestId))).toEqual(new Set([requestId]));
    expect(agent.createCalls.at(-1)).toMatchObject({ requestId, epoch: world.manager.services.leaderEpoch() });
    expect(await world.manager.services.verifyLedger()).toEqual([]);
    const status = await world.manager.services.api.cluster.status(world.ctx());
    expect(status.used).toEqual({ cpu: '2', mem: '1073741824' });
  });

  it('ends when destroyed, frees what it held, and its log can still be read', async () => {
    const ended = await runWithRequest({ requestId: newId() }, () =>
      api().destroy({ session: 'first', forced: false }, world.ctx()),
    );
    expect(['TERMINATING', 'TERMINATED']).toContain(ended.status);
    const view = await api().wait({ session: ended.id, until: 'ended', timeoutMs: 60_000 }, world.ctx());
    expect(view).toMatchObject({
      status: 'TERMINATED',
      reason: { code: 'user-requested' },
      kernels: [{ exitCode: 137 }],
    });
    expect((await world.manager.services.api.cluster.status(world.ctx())).used).toEqual({ cpu: '0', mem: '0' });
    expect(await api().logs({ session: view.id }, world.ctx())).toEqual({ logs: 'hello from the kernel\n' });
    expect(await world.manager.services.verifyLedger()).toEqual([]);
  });
});
