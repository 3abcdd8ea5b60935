import { parseSubnet } from '@backend.ai/core';
import { collectLogs, FakeClock } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import type { EngineInfo } from './engine.ts';
import { SwarmMembership, swarmNodeOf } from './swarm.ts';

const engine: EngineInfo = { ServerVersion: '20.10.24', Architecture: 'x86_64' };
const worker = {
  ...{ NodeID: 'w', LocalNodeState: 'active', ControlAvailable: false },
  RemoteManagers: [{ NodeID: 'm2' }, { NodeID: 'm1' }],
};
const manager = { ...worker, NodeID: 'm1', ControlAvailable: true, Cluster: { ID: 'swarm', DataPathPort: 4789 } };

describe('what an engine tells of its swarm', () => {
  it('is nothing without one, and while it joins or is locked', () => {
    expect(swarmNodeOf(engine)).toBeUndefined();
    for (const LocalNodeState of ['inactive', 'pending', 'error', 'locked']) {
      expect(swarmNodeOf({ ...engine, Swarm: { ...manager, LocalNodeState } })).toBeUndefined();
    }
  });

  it('is its node and the nodes that manage it, and the name of the swarm where it manages it itself', () => {
    const managers = ['m1', 'm2'];
    expect(swarmNodeOf({ ...engine, Swarm: worker })).toEqual({ nodeId: 'w', managers });
    expect(swarmNodeOf({ ...engine, Swarm: manager })).toEqual({ nodeId: 'm1', managers, swarmId: 'swarm' });
  });

  it('says nothing of managing a swarm whose traffic no firewall of an agent would know', () => {
    const Cluster = { ID: 'swarm', DataPathPort: 7789 };
    expect(swarmNodeOf({ ...engine, Swarm: { ...manager, Cluster } })?.swarmId).toBeUndefined();
  });

  it('is nothing without root: such engines cannot share networks', () => {
    expect(swarmNodeOf({ ...engine, SecurityOptions: ['name=rootless'], Swarm: manager })).toBeUndefined();
  });
});

describe('the swarm of an engine', () => {
  const look = async (pool: string, clusterPool: string, info: EngineInfo = { ...engine, Swarm: manager }) => {
    const logs = collectLogs();
    const membership = new SwarmMembership({
      engine: { info: async () => info },
      ...{ pool: parseSubnet(pool)!, clusterPool: parseSubnet(clusterPool)! },
      ...{ clock: new FakeClock(), logger: logs.logger, tickMs: 1_000 },
    });
    await membership.look();
    await membership.look();
    return { node: membership.node, warnings: logs.records.filter(({ level }) => level === 'warn') };
  };

  it('is its node where networks over it get other addresses than those of the machine', async () => {
    const { node, warnings } = await look('10.99.0.0/16', '10.98.0.0/16');
    expect(node).toMatchObject({ nodeId: 'm1' });
    expect(warnings).toEqual([]);
  });

  it.each([
    ['10.96.0.0/13', '10.98.0.0/16'],
    ['10.98.4.0/24', '10.98.0.0/16'],
  ])('is of no use where addresses are of %s and of %s, which is told once', async (pool, clusterPool) => {
    const { node, warnings } = await look(pool, clusterPool);
    expect(node).toBeUndefined();
    expect(warnings).toMatchObject([{ 'docker.subnet-pool': pool, 'docker.cluster-subnet-pool': clusterPool }]);
    expect((await look(pool, clusterPool, engine)).warnings).toEqual([]);
  });
});
