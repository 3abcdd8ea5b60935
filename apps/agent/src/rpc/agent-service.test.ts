import type { CallContext } from '@backend.ai/contract';
import { expect, it } from 'vitest';
import type { BackendCapabilities } from '../backends/backend.ts';
import { type AgentServiceOptions, LocalAgentService } from './agent-service.ts';

it('makes and removes networks of a swarm only while its engine manages one', async () => {
  const ctx = { headers: {} } as CallContext;
  const told: string[] = [];
  const capabilities: { swarm?: BackendCapabilities['swarm'] } = {};
  const clusterNetworks = {
    ensure: async (sessionId: string) => `network-${sessionId}`,
    remove: async (sessionId: string) => void told.push(sessionId),
  };
  const service = new LocalAgentService({
    state: { admitEpoch: () => {} },
    backend: { capabilities, clusterNetworks },
  } as unknown as AgentServiceOptions);
  for (const swarm of [undefined, { nodeId: 'node', managers: ['other'] }]) {
    capabilities.swarm = swarm;
    await expect(service.ensureClusterNetwork({ sessionId: 'a' }, ctx)).rejects.toMatchObject({
      code: 'unsupported-feature',
    });
    await expect(service.removeClusterNetwork({ sessionId: 'a' }, ctx)).rejects.toMatchObject({
      code: 'unsupported-feature',
    });
  }
  capabilities.swarm = { nodeId: 'node', managers: ['node'], swarmId: 'swarm' };
  expect(await service.ensureClusterNetwork({ sessionId: 'a' }, ctx)).toEqual({ network: 'network-a' });
  await service.removeClusterNetwork({ sessionId: 'a' }, ctx);
  expect(told).toEqual(['a']);
});
