import type { RunResult, SessionView } from '@backend.ai/contract';
import { AppError, deferred, newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let agent: FakeAgent;

beforeAll(async () => {
  world = await createWorld();
  agent = await world.addAgent('i-one');
});
afterAll(() => world.close());

afterEach(async () => {
  agent.behaviour = 'start';
  agent.destroyBehaviour = 'end';
  agent.holdEvents = false;
  await agent.flush();
  await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
  expect(await world.manager.services.verifyLedger()).toEqual([]);
});

const api = () => world.manager.services.api.session;
const destroy = (session: string, forced = false) =>
  runWithRequest({ requestId: newId() }, () => api().destroy({ session, forced }, world.ctx()));

describe('starting', () => {
  it('goes back to the queue when the agent refuses, and tries again', async () => {
    agent.behaviour = 'refuse';
    const { id } = await world.create();
    await waitFor(async () => (await api().get({ session: id }, world.ctx())).reason.code === 'agent-refused');
    expect(await world.manager.services.verifyLedger()).toEqual([]);
    agent.behaviour = 'start';
    await world.until(id, 'RUNNING');
  });

  it('asks before it orders again when an order was not answered', async () => {
    agent.behaviour = 'lose-order';
    const { id } = await world.create();
    await waitFor(() => agent.createCalls.length > 0);
    agent.behaviour = 'start';
    await world.until(id, 'RUNNING');
  });

  it('runs although the answer to the order was lost', async () => {
    agent.behaviour = 'lose-answer';
    const { id } = await world.create();
    await world.until(id, 'RUNNING');
    const { kernels } = await agent.status();
    expect(kernels.filter((kernel) => kernel.sessionId === id)).toHaveLength(1);
  });

  it('is ordered again at an agent that comes back without what it was starting', async () => {
    agent.behaviour = 'stall';
    const { id } = await world.create();
    const kernelId = (await world.until(id, 'PREPARING')).kernels[0]!.id;
    await waitFor(() => agent.starts.includes(kernelId), { what: 'the first start' });
    await agent.stop({ loseKernels: true });
    agent.behaviour = 'start';
    await agent.start();
    await world.until(id, 'RUNNING');
    expect(agent.starts.filter((start) => start === kernelId)).toHaveLength(1);
    expect(agent.createCalls.filter((call) => call.kernelId === kernelId).length).toBeGreaterThan(1);
  });

  it('is not ordered again when it was ended while its agent was asked for it', async () => {
    const [asked, answer] = [deferred<string>(), deferred()];
    agent.behaviour = 'lose-order';
    agent.checkKernel = async ({ kernelId }) => {
      asked.resolve(kernelId);
      await answer.promise;
      throw new AppError('kernel-not-found', 'There is no such kernel here.');
    };
    try {
      const { id } = await world.create();
      const kernelId = await asked.promise;
      agent.behaviour = 'start';
      await destroy(id, true);
      const orders = () => agent.createCalls.filter((call) => call.kernelId === kernelId).length;
      const before = orders();
      answer.resolve();
      // What is started after it was to be ordered later.
      await world.until((await world.create()).id, 'RUNNING');
      await world.manager.services.settle();
      expect(orders()).toBe(before);
      expect(agent.starts).not.toContain(kernelId);
    } finally {
      Reflect.deleteProperty(agent, 'checkKernel');
    }
  });

  it('fails with the reason the agent gives', async () => {
    agent.behaviour = 'fail';
    const { id } = await world.create();
    const view = await world.until(id, 'ERROR');
    expect(view.reason).toMatchObject({ code: 'start-failed', data: { failedStep: 'launch' } });
  });

  it('fails with a reason of its own when the disk of the agent became full', async () => {
    agent.behaviour = 'stall';
    const { id } = await world.create();
    const { kernels } = await world.until(id, 'PREPARING');
    const kernelId = kernels[0]?.id ?? '';
    await waitFor(() => agent.kernels.has(kernelId), { what: 'the order at the agent' });
    const error = new AppError('disk-full', 'The disk of the agent is full.').toBody();
    agent.tell(kernelId, { type: 'kernel-start-failed', error, failedStep: 'write-facts' });
    expect((await world.until(id, 'ERROR')).reason).toMatchObject({
      code: 'disk-full',
      data: { error: { code: 'disk-full' }, failedStep: 'write-facts' },
    });
  });

  it('can be ended half-way', async () => {
    agent.behaviour = 'stall';
    const { id } = await world.create();
    await world.until(id, 'PREPARING');
    await destroy(id);
    expect((await world.until(id, 'TERMINATED')).reason.code).toBe('user-requested');
    expect(agent.kernels.size).toBe(0);
  });

  it('goes on under a manager that was started meanwhile', async () => {
    agent.behaviour = 'lose-order';
    const { id } = await world.create();
    await waitFor(() => agent.createCalls.length > 0);
    await world.restartManager();
    agent.behaviour = 'start';
    await world.until(id, 'RUNNING');
    expect(agent.createCalls.at(-1)?.epoch).toBe(world.manager.services.leaderEpoch());
  });
});

describe('events', () => {
  it('change nothing the second time', async () => {
    const { id } = await world.create();
    await world.until(id, 'RUNNING');
    agent.holdEvents = true;
    agent.exit((await agent.status()).kernels[0]!.kernelId, 3);
    const events = [...agent.outbox];
    const send = () =>
      runWithRequest({ requestId: newId() }, () => agent.api.reportEvents.mutate({ agentId: 'i-one', events }));
    const first = await send();
    const before = await api().history({ session: id }, world.ctx());
    expect(await send()).toEqual(first);
    expect(await api().history({ session: id }, world.ctx())).toEqual(before);
    expect(await api().get({ session: id }, world.ctx())).toMatchObject({
      status: 'TERMINATED',
      reason: { code: 'self-terminated', data: { exitCode: 3 } },
      kernels: [{ exitCode: 3 }],
    });
  });

  it('that are late do not undo what a heartbeat made right', async () => {
    agent.holdEvents = true;
    const { id } = await world.create();
    await waitFor(() => agent.kernels.size === 1);
    // A heartbeat that knows of events still to come proves nothing.
    await agent.heartbeat();
    expect((await api().get({ session: id }, world.ctx())).status).toBe('PREPARING');
    agent.holdEvents = false;
    await agent.flush();
    await world.until(id, 'RUNNING');
  });

  it('that end a session leave the end of its run readable', async () => {
    const { id } = await world.create();
    await world.until(id, 'RUNNING');
    agent.exit([...agent.kernels.keys()][0]!, 137, 'out-of-memory');
    expect((await world.until(id, 'TERMINATED')).reason.code).toBe('out-of-memory');
    const last = {
      runId: 'r',
      status: 'finished',
      exitCode: 137,
      options: null,
      console: [],
      cursor: 0,
      notices: [],
    } satisfies RunResult;
    agent.lastWords.set('r', last);
    const next = { session: id, mode: 'continue', code: '', options: {}, flushMs: 0, holdMs: 0, timeoutMs: 0 } as const;
    expect(await api().execute({ ...next, runId: 'r' }, world.ctx())).toMatchObject({ exitCode: 137 });
    await expect(api().execute({ ...next, runId: 'other' }, world.ctx())).rejects.toMatchObject({
      code: 'session-not-running',
    });
  });

  it('of a foreign agent are refused', async () => {
    const event = { agentId: 'i-two', events: [{ ...startedEvent(), seq: 1 }] };
    await expect(agent.api.reportEvents.mutate(event)).rejects.toMatchObject({ code: 'peer-rejected' });
    await expect(agent.api.register.mutate({ ...agent.registration, agentId: 'i-two' })).rejects.toMatchObject({
      code: 'peer-rejected',
    });
    await expect(agent.api.heartbeat.mutate({ ...agent.takeHeartbeat(), agentId: 'i-two' })).rejects.toMatchObject({
      code: 'peer-rejected',
    });
  });
});

function startedEvent() {
  return {
    type: 'kernel-creating' as const,
    at: new Date().toISOString(),
    requestId: newId(),
    kernelId: newId(),
    sessionId: newId(),
  };
}

describe('heartbeats', () => {
  it('tell that a kernel is gone, unless they are older than what is known', async () => {
    const { id } = await world.create();
    const old = { ...agent.takeHeartbeat(), kernels: [] };
    await world.until(id, 'RUNNING');
    const beat = (heartbeat: typeof old) =>
      runWithRequest({ requestId: newId() }, () => agent.api.heartbeat.mutate(heartbeat));
    await beat({ ...old, lastEventSeq: 0 });
    expect((await api().get({ session: id }, world.ctx())).status).toBe('RUNNING');
    agent.kernels.clear();
    await agent.heartbeat();
    expect(await world.until(id, 'ERROR')).toMatchObject({ reason: { code: 'kernel-lost' } });
  });

  it('are answered with the kernels that the agent should end', async () => {
    const { id } = await world.create();
    await world.until(id, 'RUNNING');
    agent.destroyBehaviour = 'ignore';
    const view = await destroy(id, true);
    expect(view.status).toBe('TERMINATED');
    expect(await world.manager.services.verifyLedger()).toEqual([]);
    await waitFor(() => agent.kernels.size === 0, { what: 'the agent has ended it' });
  });
});

describe('an end by force', () => {
  const toldOf = (kernelId: string): boolean[] =>
    agent.destroyCalls.filter((call) => call.kernelId === kernelId).map(({ forced }) => forced);

  it('is ordered from the agent at once: its room is given to others, who would be refused until the next heartbeat', async () => {
    const { id } = await world.create();
    const kernelId = (await world.until(id, 'RUNNING')).kernels[0]!.id;
    expect((await destroy(id, true)).status).toBe('TERMINATED');
    await waitFor(() => toldOf(kernelId).includes(true), { what: 'the order' });
    expect(agent.kernels.has(kernelId)).toBe(false);
  });

  it('is ordered also from one that was told a moment ago, and takes its time', async () => {
    agent.destroyBehaviour = 'ignore';
    const { id } = await world.create();
    const kernelId = (await world.until(id, 'RUNNING')).kernels[0]!.id;
    await destroy(id);
    await waitFor(() => toldOf(kernelId).length === 1, { what: 'the first order' });
    await destroy(id, true);
    await waitFor(() => toldOf(kernelId).includes(true), { what: 'the order by force' });
  });
});

describe('an agent that goes away', () => {
  it('gives what it was starting to another one', async () => {
    agent.behaviour = 'lose-order';
    const { id } = await world.create();
    await waitFor(() => agent.createCalls.length > 0);
    await agent.stop();
    const calls = agent.createCalls.length;
    const other = await world.addAgent('i-two');
    await world.forgetHeartbeats('i-one');
    await world.until(id, 'RUNNING');
    expect(other.kernels.size).toBe(1);
    expect(agent.createCalls.length).toBe(calls);
    await agent.start();
    await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
    await other.stop();
  });

  it('and comes back with what it was starting gets the start as a new one, whatever it tells of the old', async () => {
    agent.behaviour = 'stall';
    const { id } = await world.create();
    const kernelOf = (view: SessionView): string => view.kernels[0]!.id;
    const old = kernelOf(await world.until(id, 'PREPARING'));
    await agent.stop();
    await world.forgetHeartbeats('i-one');
    await world.until(id, 'PENDING');
    agent.holdEvents = true;
    agent.exit(old);
    agent.behaviour = 'start';
    await agent.start();
    await waitFor(() => agent.kernels.size === 1, { what: 'the new attempt' });
    agent.holdEvents = false;
    await agent.flush();
    const running = await world.until(id, 'RUNNING');
    expect(kernelOf(running)).not.toBe(old);
    expect([...agent.kernels.keys()]).toEqual([kernelOf(running)]);
    expect(await world.manager.services.verifyLedger()).toEqual([]);
  });

  it('keeps its sessions for a while, then they are given up and freed; what it brings back is ended', async () => {
    const { id } = await world.create();
    await world.until(id, 'RUNNING');
    await agent.stop();
    await world.forgetHeartbeats('i-one');
    await waitFor(async () => (await agentStatus()) === 'LOST');
    await expect(
      runWithRequest({ requestId: newId() }, () =>
        api().execute(
          { session: id, mode: 'query', code: '1', options: {}, flushMs: 0, holdMs: 0, timeoutMs: 0 },
          world.ctx(),
        ),
      ),
    ).rejects.toMatchObject({ code: 'agent-unreachable' });
    expect((await api().get({ session: id }, world.ctx())).status).toBe('RUNNING');
    await world.expireGrace('i-one');
    expect(await world.until(id, 'ERROR')).toMatchObject({ reason: { code: 'agent-lost' } });
    expect(await world.manager.services.verifyLedger()).toEqual([]);
    expect(agent.kernels.size).toBe(1);
    await agent.start();
    expect(agent.kernels.size).toBe(0);
    expect(await agentStatus()).toBe('ALIVE');
  });

  it('and comes back in time goes on with them', async () => {
    const { id } = await world.create();
    await world.until(id, 'RUNNING');
    await agent.stop();
    await agent.start();
    expect((await api().get({ session: id }, world.ctx())).status).toBe('RUNNING');
    expect(agent.kernels.size).toBe(1);
  });
});

async function agentStatus(): Promise<string | undefined> {
  const { agents } = await world.manager.services.api.cluster.status(world.ctx());
  return agents.find(({ id }) => id === 'i-one')?.status;
}

describe('deadlines', () => {
  it('end what an agent does not end', async () => {
    const { id } = await world.create();
    await world.until(id, 'RUNNING');
    agent.destroyBehaviour = 'ignore';
    await destroy(id);
    await world.expireDeadline(id);
    await world.until(id, 'ERROR');
    expect((await api().get({ session: id }, world.ctx())).reason.code).toBe('terminate-timeout');
    agent.kernels.clear();
  });

  it('end what stays half-started', async () => {
    agent.behaviour = 'stall';
    const { id } = await world.create();
    await world.until(id, 'PREPARING');
    await world.expireDeadline(id);
    await world.until(id, 'TERMINATED');
    expect((await api().get({ session: id }, world.ctx())).reason.code).toBe('start-timeout');
  });
});
