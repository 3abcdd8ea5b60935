import { createSessionSchema, executeInputSchema, type SessionView } from '@backend.ai/contract';
import { InProcessEventBus } from '@backend.ai/coordination';
import { AppError, deferred, hasCode, newId } from '@backend.ai/core';
import { runWithRequest, silentLogger } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Manager } from '../src/index.ts';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

const newBus = (): InProcessEventBus => new InProcessEventBus({ source: 'manager', logger: silentLogger });

/** As while Redis is away. */
function refusingBus(): InProcessEventBus {
  const bus = newBus();
  bus.publish = async () => {
    throw new AppError('server-unreachable', 'Redis does not answer.');
  };
  return bus;
}

it('an agent is asked for all kernels that it misses at once, and what it tells meanwhile does not wait', async () => {
  const world = await createWorld();
  try {
    const agent = await world.addAgent('i-forgetful');
    const ids = [(await world.create()).id, (await world.create()).id];
    for (const id of ids) await world.until(id, 'RUNNING');
    const asked = new Set<string>();
    const askedAll = deferred<void>();
    agent.checkKernel = async ({ kernelId }) => {
      asked.add(kernelId);
      if (asked.size === ids.length) askedAll.resolve();
      await askedAll.promise;
      await runWithRequest({ requestId: newId() }, () =>
        agent.api.heartbeat.mutate({ ...agent.takeHeartbeat(), lastEventSeq: 0 }),
      );
      throw new AppError('kernel-not-found', 'There is no such kernel here.');
    };
    agent.kernels.clear();
    for (const id of ids) expect((await world.until(id, 'ERROR')).reason.code).toBe('kernel-lost');
  } finally {
    await world.close();
  }
});

it('a kernel that its agent cannot be asked for is given up when no heartbeat had it for long, and not before', async () => {
  const world = await createWorld({ config: { agentLostGraceMs: 5_000 } });
  try {
    const agent = await world.addAgent('i-mute');
    const [gone, back] = [await world.create(), await world.create()];
    for (const { id } of [gone, back]) await world.until(id, 'RUNNING');
    let asked = 0;
    agent.checkKernel = async () => {
      asked += 1;
      throw new AppError('agent-unreachable', 'Nobody can ask.');
    };
    const kept = new Map(agent.kernels);
    const begun = performance.now();
    agent.kernels.clear();
    await waitFor(() => asked > 0, { what: 'a kernel is asked for in vain' });
    const returned = [...kept].find(([, { spec }]) => spec.sessionId === back.id)!;
    agent.kernels.set(...returned);
    expect((await world.until(gone.id, 'ERROR')).reason.code).toBe('kernel-lost');
    expect(performance.now() - begun).toBeGreaterThan(2_000);
    expect(asked).toBeGreaterThan(1);
    expect((await world.manager.services.api.session.get({ session: back.id }, world.ctx())).status).toBe('RUNNING');
  } finally {
    await world.close();
  }
});

describe.each([
  ['do not arrive', newBus],
  ['cannot be published', refusingBus],
])('two managers whose events %s', (_what, eventBus) => {
  let world: World;
  let agent: FakeAgent;
  let leader: Manager;
  let other: Manager;
  let otherAddress: string;

  beforeAll(async () => {
    world = await createWorld({ eventBus });
    leader = world.manager;
    ({ manager: other, address: otherAddress } = await world.addManager());
    agent = await world.addAgent('i-moving', { slots: { cpu: '2', mem: '4294967296' } });
    expect([leader, other].map((manager) => manager.services.leaderEpoch() !== undefined)).toEqual([true, false]);
    // From now on the leader has a memory of the cluster, and a connection to the agent.
    await world.until((await world.create()).id, 'RUNNING');
  });
  afterAll(() => world.close());
  afterEach(async () => {
    await runWithRequest({ requestId: newId() }, () => leader.services.endAllSessions('user-requested', 60_000));
    expect(await leader.services.verifyLedger()).toEqual([]);
  });

  const api = (manager: Manager) => manager.services.api.session;
  const createAt = (manager: Manager, cpu = '1'): Promise<SessionView> =>
    runWithRequest({ requestId: newId() }, async () => {
      const input = createSessionSchema.parse({ image: 'python', resources: { cpu, mem: '64m' } });
      return (await api(manager).create(input, world.ctx())).session;
    });
  const destroyAt = (manager: Manager, session: string, forced = false): Promise<SessionView> =>
    runWithRequest({ requestId: newId() }, () => api(manager).destroy({ session, forced }, world.ctx()));
  /** It starts anew under another address, and registers there. */
  const moveTo = async (address?: string): Promise<void> => {
    await agent.stop();
    await agent.start(address);
  };

  it('start what was created at the one that does not lead', async () => {
    await world.until((await createAt(other)).id, 'RUNNING');
  });

  it('end what was ended at the one that does not lead', async () => {
    const { id } = await createAt(leader);
    await world.until(id, 'RUNNING');
    await destroyAt(other, id);
    await world.until(id, 'TERMINATED');
    expect([...agent.kernels.values()].filter(({ spec }) => spec.sessionId === id)).toEqual([]);
  });

  it('give to others what was freed through the one that does not lead', async () => {
    const { id } = await createAt(leader, '2');
    await world.until(id, 'RUNNING');
    const waiting = await createAt(leader, '2');
    await waitFor(async () => (await api(leader).get({ session: waiting.id }, world.ctx())).reason.code !== 'queued', {
      what: 'it has a reason to wait',
    });
    await destroyAt(other, id, true);
    await world.until(waiting.id, 'RUNNING');
  });

  it('find an agent that registered elsewhere under another address', async () => {
    await moveTo(otherAddress);
    const atLeader = await createAt(leader);
    await world.until(atLeader.id, 'RUNNING');
    const run = (manager: Manager): Promise<unknown> =>
      runWithRequest({ requestId: newId() }, () =>
        api(manager).execute(
          { ...executeInputSchema.parse({ mode: 'query', code: 'x' }), session: atLeader.id },
          world.ctx(),
        ),
      );
    // Both have a connection to where it is now; then it moves back.
    await Promise.all([run(leader), run(other)]);
    await moveTo();
    await waitFor(
      async () => {
        try {
          return await run(other);
        } catch (error) {
          if (!hasCode(error, 'agent-unreachable')) throw error;
          return false;
        }
      },
      { what: 'the other manager reaches the agent' },
    );
  });
});
