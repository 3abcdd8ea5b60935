import { randomUUID } from 'node:crypto';
import { createAgentGatewayRouter } from '@backend.ai/contract';
import { createRpcServer, pinnedKeys } from '@backend.ai/rpc';
import { FakeClock, waitFor } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { agentWorld, FakeGateway, kernelSpec, startKernel } from './agent-world.ts';

const fake = { backend: 'fake' } as const;

it('announces itself with what it offers, and tells the truth again and again', async () => {
  const w = await agentWorld(fake);
  const { agent, api } = await w.startAgent();
  const status = agent.status();
  expect(w.gateway.registrations).toMatchObject([
    {
      agentId: 'i-test',
      bootId: agent.bootId,
      rpcVersion: 3,
      address: status.address,
      dataAddress: status.dataAddress,
    },
  ]);
  const { kernelId } = await startKernel(w, api);
  await waitFor(() =>
    w.gateway.heartbeats.at(-1)?.kernels.some((each) => each.kernelId === kernelId && each.state === 'running'),
  );
  expect(w.gateway.heartbeats.at(-1)?.lastEventSeq).toBe(3);
});

it('goes to another manager when its own is gone, and brings what was not acknowledged', async () => {
  const w = await agentWorld(fake);
  const second = new FakeGateway();
  const makeServer = (gateway: FakeGateway) =>
    createRpcServer({
      router: createAgentGatewayRouter(gateway),
      identity: w.manager,
      directory: pinnedKeys('agent', [w.identity.publicKey]),
      allow: ['agent'],
      logger: w.logs.logger,
    });
  const first = makeServer(w.gateway);
  const other = makeServer(second);
  onTestFinished(() => other.close({ graceMs: 0 }));
  const managers = [first, other].map((server) => server.listenInProcess(`manager-${randomUUID()}`).address);
  const { agent, api } = await w.startAgent({ managers });
  expect(agent.status().link.manager).toBe(managers[0]);
  w.gateway.refuseEvents = new Error('the database is away');
  const spec = kernelSpec();
  await api.createKernel.mutate(spec);
  await waitFor(() => agent.status().outboxDepth === 3);
  await first.close({ graceMs: 0 });
  await waitFor(() => agent.status().outboxDepth === 0);
  expect(second.registrations).toHaveLength(1);
  expect(second.events.map(({ seq }) => seq)).toEqual([1, 2, 3]);
  expect(agent.status()).toMatchObject({ outboxDepth: 0, registration: 'registered', link: { manager: managers[1] } });
});

it('runs simulated kernels in simulated time', async () => {
  let flow: NodeJS.Timeout | undefined;
  onTestFinished(() => clearInterval(flow));
  const w = await agentWorld(fake);
  const clock = new FakeClock();
  // The agent ends in its own time, too.
  onTestFinished(() => {
    flow = setInterval(() => void clock.advance(1_000), 1);
  });
  const { agent, api } = await w.startAgent({
    clock,
    fakeScript: () => ({ stepDelayMs: { 'make-scratch': 1_000 }, stopDelayMs: 500 }),
  });
  const spec = kernelSpec({ fake: { startDelayMs: 60_000, exitAfterMs: 3_600_000, exitCode: 5 } });
  await api.createKernel.mutate(spec);
  const types = () => w.gateway.of(spec.kernelId).map(({ type }) => type);
  await waitFor(() => types().length === 1);
  await clock.advance(1_000);
  await waitFor(() => types().at(-1) === 'kernel-creating');
  await clock.advance(60_000);
  await waitFor(() => types().at(-1) === 'kernel-started');
  expect(agent.status().kernels).toHaveLength(1);
  await clock.advance(3_600_000);
  await waitFor(() => types().at(-1) === 'kernel-terminated');
  expect(w.gateway.of(spec.kernelId).at(-1)).toMatchObject({ exitCode: 5, reason: 'self-terminated' });
});

it('fails a simulated start at the step it was told', async () => {
  const w = await agentWorld(fake);
  const { api } = await w.startAgent();
  const spec = kernelSpec({ fake: { failStep: 'launch' } });
  await api.createKernel.mutate(spec);
  expect(await w.gateway.waitForEvent(spec.kernelId, 'kernel-start-failed')).toMatchObject({ failedStep: 'launch' });
});
