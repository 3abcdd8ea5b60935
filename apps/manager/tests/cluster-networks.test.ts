import { AppError, type ErrorCode, newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ClusterNetworkRepository } from '../src/repositories/cluster-networks.ts';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let manager: FakeAgent;
let worker: FakeAgent;

beforeAll(async () => {
  // One that cannot be reached stays one that could be asked.
  world = await createWorld({ config: { agentLostAfterMs: 600_000 } });
  const managers = ['node-1', 'node-3'];
  manager = await join('i-manager', { nodeId: 'node-1', managers, swarmId: 'swarm' });
  worker = await join('i-worker', { nodeId: 'node-2', managers });
});
afterAll(() => world.close());
afterEach(async () => {
  if (!manager.isUp) await manager.start();
  await inRequest(() => world.manager.services.endAllSessions('user-requested', 20_000));
  await withoutNetworks();
});

const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);
const join = (id: string, swarm: FakeAgent['swarm']) => world.addAgent(id, { backend: 'docker', swarm });
/** One kernel on each of two agents. */
const create = (size = 2) => world.create({ clusterMode: 'multi-node', clusterSize: size, resources: { cpu: 3 } });
const destroy = (session: string) =>
  inRequest(() => world.manager.services.api.session.destroy({ session, forced: false }, world.ctx()));
const recorded = async () => [
  ...(await world.database.db.execute<{ id: string }>(sql`select session_id::text as id from cluster_networks`)),
];
const withoutNetworks = () =>
  waitFor(
    async () => {
      await world.manager.services.settle();
      return (await recorded()).length === 0;
    },
    { what: 'the end of all networks', timeoutMs: 20_000 },
  );

describe('the network of containers on several machines', () => {
  it('is made in their swarm before they start, is where they meet, and goes with their session', async () => {
    const { id } = await create();
    await world.until(id, 'RUNNING');
    const specs = [manager, worker].flatMap((agent) => [...agent.kernels.values()].map(({ spec }) => spec));
    expect(specs).toHaveLength(2);
    for (const { cluster } of specs) {
      expect(cluster?.network).toBe(`network-${id}`);
      expect(cluster?.hosts).toEqual([{ name: 'main1' }, { name: 'sub1' }]);
    }
    expect([...manager.networks]).toEqual([id]);
    expect(await recorded()).toEqual([{ id }]);
    await destroy(id);
    await withoutNetworks();
    expect([...manager.networks]).toEqual([]);
  });

  it('is not written down any more once its session ends', async () => {
    const { id } = await create();
    await world.until(id, 'RUNNING');
    const epoch = world.manager.services.leaderEpoch() ?? 0;
    const takenBack = new Error('All of it is taken back.');
    const attempt = world.database.db.transaction(async (tx) => {
      const networks = new ClusterNetworkRepository(tx);
      expect(await networks.record({ sessionId: id, swarmId: 'other' }, epoch)).toBe(true);
      await tx.execute(sql`update sessions set status = 'TERMINATING' where id = ${id}::uuid`);
      expect(await networks.record({ sessionId: id, swarmId: 'other' }, epoch)).toBe(false);
      throw takenBack;
    });
    await expect(attempt).rejects.toBe(takenBack);
  });

  it('is not needed on one machine', async () => {
    const { id } = await world.create({ clusterMode: 'single-node', clusterSize: 2, resources: { cpu: 1 } });
    await world.until(id, 'RUNNING');
    expect(await recorded()).toEqual([]);
  });

  it('is removed by another pass when it could not be at first', async () => {
    manager.networkRefusals.push(new AppError('engine-failed', 'It is in use.'));
    const { id } = await create();
    await world.until(id, 'RUNNING');
    await destroy(id);
    await waitFor(() => !manager.networks.has(id), { what: 'its removal', timeoutMs: 20_000 });
    expect(manager.networkRefusals).toEqual([]);
  });

  it('is removed also when its session is known no more', async () => {
    const sessionId = newId();
    manager.networks.add(sessionId);
    await world.database.db.execute(
      sql`insert into cluster_networks (session_id, swarm_id) values (${sessionId}::uuid, 'swarm')`,
    );
    await withoutNetworks();
    expect(manager.networks.has(sessionId)).toBe(false);
  });

  it('is removed once an agent that manages the swarm is back', async () => {
    const { id } = await create();
    await world.until(id, 'RUNNING');
    // Told by an agent that lives to end: only the way to the swarm is gone.
    manager.swarm = { nodeId: 'node-1', managers: ['node-3'] };
    await inRequest(() => manager.register());
    await destroy(id);
    await world.until(id, 'TERMINATED');
    await world.manager.services.settle();
    expect(await recorded()).toEqual([{ id }]);
    manager.swarm = { nodeId: 'node-1', managers: ['node-3'], swarmId: 'swarm' };
    await inRequest(() => manager.register());
    await withoutNetworks();
    expect(manager.networks.has(id)).toBe(false);
  });

  describe('with another manager of its swarm', () => {
    let second: FakeAgent;
    beforeAll(async () => {
      second = await join('i-second', { nodeId: 'node-3', managers: ['node-1', 'node-3'], swarmId: 'swarm' });
    });
    afterEach(() => {
      manager.engineFailure = undefined;
    });

    it.each([
      ['agent is away', () => manager.stop()],
      ['engine is away', () => fail('engine-unavailable')],
      ['engine manages the swarm no more', () => fail('unsupported-feature')],
    ])('is made and removed by that one when of the first the %s', async (_, happen) => {
      await happen();
      const { id } = await createBesides();
      await world.until(id, 'RUNNING');
      expect(second.networks.has(id)).toBe(true);
      await destroy(id);
      await withoutNetworks();
      expect(second.networks.has(id)).toBe(false);
    });

    it('is made by that one when the first fails to', async () => {
      fail('engine-failed');
      const { id } = await createBesides();
      await world.until(id, 'RUNNING');
      expect(second.networks.has(id)).toBe(true);
    });

    function fail(code: ErrorCode): void {
      manager.engineFailure = new AppError(code, 'It cannot.');
    }
    const createBesides = () =>
      world.create({
        ...{ clusterMode: 'multi-node', clusterSize: 2, resources: { cpu: 3 } },
        designatedAgents: ['i-second', 'i-worker'],
      });
  });
});
