import { createSessionSchema, type SessionView } from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { apiOf } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

/** What a session can be besides one interactive kernel: jobs, after others, later, somewhere certain, several kernels. */

let world: World;
let agent: FakeAgent;
let other: FakeAgent;
beforeAll(async () => {
  world = await createWorld();
  agent = await world.addAgent('i-one');
  other = await world.addAgent('i-two');
});
afterEach(() =>
  runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000)),
);
afterAll(() => world.close());

const batch = { type: 'batch', startupCommand: 'true' } as const;
const specOf = (view: SessionView, nth = 0) => {
  const id = view.kernels[nth]?.id ?? '';
  return (agent.kernels.get(id) ?? other.kernels.get(id))?.spec;
};
const finish = (view: SessionView, result: 'success' | 'failure'): void => {
  for (const each of [agent, other]) each.finishBatch(view.kernels[0]?.id ?? '', result);
};
const create = (input: object) => {
  const ctx = world.ctx();
  const parsed = createSessionSchema.parse({ image: 'python', ...input });
  return runWithRequest({ requestId: ctx.requestId }, () => world.manager.services.api.session.create(parsed, ctx));
};
const waiting = (id: string, code: string): Promise<SessionView> =>
  waitFor(
    async () => {
      const view = await world.manager.services.api.session.get({ session: id }, world.ctx());
      return view.status === 'PENDING' && view.reason.code === code && view;
    },
    { what: `${id} waits for the reason ${code}` },
  );

describe('a batch session', () => {
  it.each(['success', 'failure'] as const)('ends with the %s of its job', async (result) => {
    const { id } = await world.create({ ...batch, startupCommand: 'make', timeoutMs: 90_000, bootstrapScript: 'id' });
    const running = await world.until(id, 'RUNNING');
    expect(specOf(running)).toMatchObject({
      batch: { startupCommand: 'make', timeoutMs: 90_000 },
      bootstrap: { script: 'id' },
      environ: { BACKENDAI_USER_EMAIL: world.admin.email, BACKENDAI_USER_UUID: world.admin.userId },
    });
    finish(running, result);
    // The agent stops the kernel then, which ends with 137.
    const exitCode = result === 'success' ? 0 : 1;
    expect(await world.until(id, 'TERMINATED')).toMatchObject({ result, kernels: [{ exitCode }] });
  });

  it('has failed when its kernel is gone before the job is over, and has no result when it was ended', async () => {
    const { id } = await world.create(batch);
    const { kernels } = await world.until(id, 'RUNNING');
    for (const each of [agent, other]) each.exit(kernels[0]?.id ?? '', 137, 'out-of-memory');
    expect(await world.until(id, 'TERMINATED')).toMatchObject({
      result: 'failure',
      reason: { code: 'out-of-memory', data: { exitCode: 137 } },
    });
    const ended = await world.create(batch);
    await world.until(ended.id, 'RUNNING');
    const ctx = world.ctx();
    const input = { session: ended.id, forced: false };
    await runWithRequest({ requestId: ctx.requestId }, () => world.manager.services.api.session.destroy(input, ctx));
    expect(await world.until(ended.id, 'TERMINATED')).toMatchObject({ result: 'undefined' });
  });

  it('keeps what it wrote when it does not start', async () => {
    agent.behaviour = 'fail';
    other.behaviour = 'fail';
    const { id } = await world.create({ ...batch, bootstrapScript: 'false' });
    await world.until(id, 'ERROR');
    agent.behaviour = 'start';
    other.behaviour = 'start';
    expect(await world.manager.services.api.session.logs({ session: id }, world.ctx())).toEqual({
      logs: agent.output,
    });
  });

  it('waits for its time', async () => {
    const { id } = await world.create({ ...batch, startsAt: new Date(Date.now() + 3_600_000).toISOString() });
    await waiting(id, 'starts-later');
    const soon = await world.create({ ...batch, startsAt: new Date(Date.now() + 1_000).toISOString() });
    await world.until(soon.id, 'RUNNING');
  });
});

describe.each(['inference', 'system'] as const)('a session of type %s', (type) => {
  it('runs programs until it is ended, and has no result', async () => {
    const { id } = await world.create({ type });
    const running = await world.until(id, 'RUNNING');
    expect(running.type).toBe(type);
    expect(specOf(running)).not.toHaveProperty('batch');
    const api = apiOf(world, world.admin);
    const run = await api((calls) => calls.session.execute({ session: id, mode: 'query', code: 'print(1)' }));
    expect(run.console.length).toBeGreaterThan(0);
    await api((calls) => calls.session.destroy({ session: id }));
    expect(await world.until(id, 'TERMINATED')).toMatchObject({
      result: 'undefined',
      reason: { code: 'user-requested' },
    });
  });

  it('takes no job', () => {
    expect(() => create({ ...batch, type })).toThrow('startupCommand');
  });
});

describe('a session that depends on others', () => {
  it('starts when all of them have ended with success', async () => {
    const first = await world.create({ ...batch, name: 'first-job' });
    const second = await world.create(batch);
    const { id } = await world.create({ dependencies: ['first-job', second.id] });
    await waiting(id, 'dependency-unfinished');
    finish(await world.until(first.id, 'RUNNING'), 'success');
    await world.until(first.id, 'TERMINATED');
    await waiting(id, 'dependency-unfinished');
    finish(await world.until(second.id, 'RUNNING'), 'success');
    await world.until(id, 'RUNNING');
    expect(await world.manager.services.api.session.get({ session: id }, world.ctx())).toMatchObject({
      dependencies: [first.id, second.id].sort(),
    });
  });

  it('starts when the one before it succeeded and its agent never confirmed the end', async () => {
    const first = await world.create(batch);
    const { id } = await world.create({ dependencies: [first.id] });
    const running = await world.until(first.id, 'RUNNING');
    for (const each of [agent, other]) each.destroyBehaviour = 'ignore';
    finish(running, 'success');
    await world.until(first.id, 'TERMINATING');
    await world.expireDeadline(first.id);
    expect(await world.until(first.id, 'ERROR')).toMatchObject({ result: 'success' });
    for (const each of [agent, other]) each.destroyBehaviour = 'end';
    await world.until(id, 'RUNNING');
    await world.until((await world.create({ dependencies: [first.id] })).id, 'RUNNING');
  });

  it('is cancelled when one of them fails, and so is what waits for it', async () => {
    const first = await world.create(batch);
    const middle = await world.create({ ...batch, dependencies: [first.id] });
    const { id } = await world.create({ dependencies: [middle.id] });
    finish(await world.until(first.id, 'RUNNING'), 'failure');
    expect(await world.until(middle.id, 'CANCELLED')).toMatchObject({
      reason: { code: 'dependency-failed', data: { sessions: [first.id] } },
    });
    await world.until(id, 'CANCELLED');
  });

  it('ends with what it depends on, when that is ended recursively', async () => {
    const first = await world.create(batch);
    const middle = await world.create({ ...batch, dependencies: [first.id] });
    const { id } = await world.create({ dependencies: [middle.id] });
    const unrelated = await world.create();
    await world.until(first.id, 'RUNNING');
    const ctx = world.ctx();
    const destroy = (input: { forced: boolean; recursive: boolean }) =>
      runWithRequest({ requestId: ctx.requestId }, () =>
        world.manager.services.api.session.destroy({ session: first.id, ...input }, ctx),
      );
    const { dependents } = await destroy({ forced: false, recursive: true });
    expect(dependents.map((view) => [view.id, view.status, view.reason.code])).toEqual([
      [id, 'CANCELLED', 'user-requested'],
      [middle.id, 'CANCELLED', 'user-requested'],
    ]);
    await world.until(first.id, 'TERMINATED');
    await world.until(unrelated.id, 'RUNNING');
  });

  it('cannot depend on what does not exist, is no job, or has failed', async () => {
    const failed = await world.create(batch);
    finish(await world.until(failed.id, 'RUNNING'), 'failure');
    await world.until(failed.id, 'TERMINATED');
    const interactive = await world.create();
    for (const [dependency, problem] of [
      ['nothing-here', 'is no session of yours'],
      [interactive.id, 'is no batch session'],
      [failed.id, 'has ended without success'],
    ])
      await expect(create({ dependencies: [dependency] })).rejects.toMatchObject({
        code: 'invalid-input',
        data: { fields: { dependencies: expect.stringContaining(problem ?? '') } },
      });
  });
});

describe('a session on designated agents', () => {
  it('is there or nowhere', async () => {
    const { id } = await world.create({ designatedAgents: ['i-two'] });
    expect((await world.until(id, 'RUNNING')).kernels[0]?.agent).toBe('i-two');
    const lost = await world.create({ designatedAgents: ['i-nowhere'] });
    await waiting(lost.id, 'designated-agent-unavailable');
  });
});

describe('a session of several kernels', () => {
  it('has one main kernel and others, each of which knows all', async () => {
    const { id, requested } = await world.create({ clusterSize: 3, resources: { cpu: 1, mem: '256m' } });
    expect(requested).toEqual({ cpu: '3', mem: String(3 * 256 * 1024 * 1024) });
    const view = await world.until(id, 'RUNNING');
    expect(view.kernels.map(({ role, index }) => `${role}${index}`)).toEqual(['main1', 'sub1', 'sub2']);
    expect(new Set(view.kernels.map((kernel) => kernel.agent)).size).toBe(1);
    expect(specOf(view, 2)).toMatchObject({
      hostname: 'sub2',
      slots: { cpu: '1' },
      cluster: {
        localRank: 2,
        replicas: { main: 1, sub: 2 },
        hosts: [{ name: 'main1' }, { name: 'sub1' }, { name: 'sub2' }],
      },
    });
    await world.manager.services.api.session.destroy({ session: id, forced: false }, world.ctx());
    await world.until(id, 'TERMINATED');
    expect(await world.manager.services.verifyLedger()).toEqual([]);
  });

  it('over several nodes is where it was told to be', async () => {
    const { id } = await world.create({
      clusterSize: 2,
      clusterMode: 'multi-node',
      designatedAgents: ['i-one', 'i-two'],
    });
    const view = await world.until(id, 'RUNNING');
    expect(view.kernels.map((kernel) => kernel.agent)).toEqual(['i-one', 'i-two']);
    expect(specOf(view, 0)?.cluster?.hosts).toMatchObject([
      { name: 'main1' },
      { name: 'sub1', address: expect.any(String) },
    ]);
  });
});
