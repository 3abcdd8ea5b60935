import { deferred } from '@backend.ai/core';
import { expect, it } from 'vitest';
import type { AgentRecord } from '../../repositories/agents.ts';
import { ClusterNetworks, type ClusterNetworksOptions } from './cluster-networks.ts';

/** Two agents of one swarm, of which the first does what is asked when the test lets it. */
function world() {
  const asked = deferred<void>();
  const gate = deferred<void>();
  const told: string[] = [];
  const swarms = { manager: { nodeId: 'm', managers: [], swarmId: 'swarm' }, worker: { nodeId: 'w', managers: ['m'] } };
  const agents = Object.entries(swarms).map(([id, swarm]) => ({ id, status: 'ALIVE', backend: 'docker', swarm }));
  const order = (what: string) => ({
    mutate: async ({ sessionId }: { sessionId: string }) => {
      told.push(`${what} ${sessionId}`);
      asked.resolve();
      await gate.promise;
      return { network: `network-${sessionId}` };
    },
  });
  const api = { ensureClusterNetwork: order('make'), removeClusterNetwork: order('remove') };
  const networks = new ClusterNetworks({
    networks: { record: async () => true, forget: async () => {} },
    directory: { list: async () => agents as unknown as AgentRecord[] },
    clients: { call: async (_agentId, work) => await work(api as never) } as ClusterNetworksOptions['clients'],
  });
  const ensure = (sessionId: string) => networks.ensure(sessionId, ['manager', 'worker'], 1);
  return { networks, ensure, asked, gate, told };
}

it('is ordered once for all kernels of a session that need it meanwhile, and for each session', async () => {
  const { ensure, asked, gate, told } = world();
  const made = Promise.all([ensure('a'), ensure('a'), ensure('b'), ensure('a')]);
  await asked.promise;
  gate.resolve();
  expect(await made).toEqual(['network-a', 'network-a', 'network-b', 'network-a']);
  expect(told.sort()).toEqual(['make a', 'make b']);
});

it('is ordered anew after its removal was, and not before it is gone', async () => {
  const { networks, ensure, asked, gate, told } = world();
  const first = ensure('a');
  await asked.promise;
  const removal = networks.remove({ sessionId: 'a', swarmId: 'swarm' }, 1, new AbortController().signal);
  const again = ensure('a');
  gate.resolve();
  await Promise.all([first, removal, again]);
  expect(told).toEqual(['make a', 'remove a', 'make a']);
});
