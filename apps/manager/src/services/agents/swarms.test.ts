import { describe, expect, it } from 'vitest';
import { type SwarmMember, Swarms } from './swarms.ts';

const member = (id: string, swarm: SwarmMember['swarm'], more: Partial<SwarmMember> = {}): SwarmMember => ({
  ...{ id, swarm, status: 'ALIVE', backend: 'docker' },
  ...more,
});
const left = member('left', { nodeId: 'l', swarmId: 'one', managers: ['l'] });
const right = member('right', { nodeId: 'r', managers: ['gone', 'l'] });
const other = member('other', { nodeId: 'o', managers: ['elsewhere'] });
const alone = member('alone', null);

describe('the swarms of agents', () => {
  it('are found by the managers that a node names', () => {
    const swarms = new Swarms([right, left, other, alone]);
    expect([left, right, other, alone].map((agent) => swarms.swarmOf(agent))).toEqual(['one', 'one', null, null]);
    expect(swarms.managersOf('one')).toEqual(['left']);
  });

  it('let containers meet where one of their managers has an agent that is alive, and else on one machine', () => {
    const networks = (agents: SwarmMember[]) => agents.map((agent) => new Swarms(agents).clusterNetworkOf(agent));
    expect(networks([left, right, alone])).toEqual(['swarm one', 'swarm one', 'agent alone']);
    expect(networks([{ ...left, status: 'LOST' }, right])).toEqual(['agent left', 'agent right']);
  });

  it('do not matter to processes, which reach each other at their machines', () => {
    const process = member('process', null, { backend: 'process' });
    expect(new Swarms([left, process]).clusterNetworkOf(process)).toBeUndefined();
  });
});
