import { join } from 'node:path';
import type { CallContext, KernelSpec } from '@backend.ai/contract';
import { tempDirectory } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import type { BackendCapabilities } from '../backends/backend.ts';
import { AgentState } from '../kernels/agent-state.ts';
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

it('runs programs of one user where nothing keeps them apart: the owner of the installation, or who came first', async () => {
  const path = join(await tempDirectory(), 'agent.json');
  const isolation = { sandbox: 'none', ownUid: false };
  const started: string[] = [];
  const serviceFor = (installationOwner?: string): LocalAgentService =>
    new LocalAgentService({
      state: AgentState.open(path),
      backend: { capabilities: { isolation } },
      supervisor: { create: ({ accessKey }: KernelSpec) => void started.push(accessKey) },
      installationOwner,
    } as unknown as AgentServiceOptions);
  const order = (service: LocalAgentService, accessKey: string) =>
    service.createKernel({ accessKey } as KernelSpec, { headers: {} } as CallContext);
  const refused = { code: 'isolation-unavailable', hint: expect.stringContaining('doctor') };

  await expect(order(serviceFor('OWNER'), 'GUEST')).rejects.toMatchObject(refused);
  await order(serviceFor('OWNER'), 'OWNER');
  await order(serviceFor(), 'FIRST');
  // In a later life, too.
  await expect(order(serviceFor(), 'SECOND')).rejects.toMatchObject(refused);
  await order(serviceFor(), 'FIRST');
  isolation.ownUid = true;
  await order(serviceFor(), 'SECOND');
  Object.assign(isolation, { sandbox: 'bubblewrap', ownUid: false });
  await order(serviceFor('OWNER'), 'SECOND');
  expect(started).toEqual(['OWNER', 'FIRST', 'FIRST', 'SECOND', 'SECOND']);
});
