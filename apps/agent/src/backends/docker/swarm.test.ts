import { describe, expect, it } from 'vitest';
import type { EngineInfo } from './engine.ts';
import { swarmNodeOf } from './swarm.ts';

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
