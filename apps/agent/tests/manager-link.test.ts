import { randomUUID } from 'node:crypto';
import { type AgentRouter, createAgentGatewayRouter } from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import {
  createRpcClient,
  createRpcServer,
  generateIdentity,
  newJoinToken,
  type PeerIdentity,
  pinnedKeys,
} from '@backend.ai/rpc';
import { FakeClock, waitFor } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import type { Agent } from '../src/index.ts';
import { agentMetas, agentWorld, codeOf, FakeGateway, kernelSpec, startKernel } from './agent-world.ts';

const fake = { backend: 'fake' } as const;

it('announces itself with what it offers, and tells the truth again and again', async () => {
  const w = await agentWorld(fake);
  const { agent, api } = await w.startAgent();
  const status = agent.status();
  expect(w.gateway.registrations).toMatchObject([
    {
      agentId: 'i-test',
      bootId: agent.bootId,
      rpcVersion: 4,
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

it('tells that an order was taken along with the next event: the answer to the order says so already', async () => {
  const w = await agentWorld(fake);
  // A heartbeat would bring what waits for a next event.
  w.gateway.heartbeatMs = 3_600_000;
  const { api } = await w.startAgent();
  const { kernelId } = await startKernel(w, api);
  const told = ['kernel-preparing', 'kernel-creating', 'kernel-started'];
  expect(w.gateway.of(kernelId).map(({ type }) => type)).toEqual(told);
  // Its steps take no time: all of it happens in one turn of the event loop, and is told together.
  expect(w.gateway.reports.map((events) => events.map(({ type }) => type))).toEqual([told]);
});

it('tells with a heartbeat what has no next event yet', async () => {
  const w = await agentWorld(fake);
  const { api } = await w.startAgent({ fakeScript: () => ({ stepDelayMs: { 'make-scratch': 3_600_000 } }) });
  const spec = kernelSpec();
  await api.createKernel.mutate(spec);
  await w.gateway.waitForEvent(spec.kernelId, 'kernel-preparing');
  await api.destroyKernel.mutate({ kernelId: spec.kernelId, reason: 'user-requested' });
  await w.gateway.waitForEvent(spec.kernelId, 'kernel-terminated');
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

it('tells of each attempt without a manager in one record without a stack', async () => {
  const w = await agentWorld(fake);
  const absent = 'ws://127.0.0.1:1';
  await w.startAgent({ managers: [absent, absent, w.managerAddress] });
  const warnings = w.logs.records.filter(({ level }) => level === 'warn' || level === 'error');
  expect(warnings).toMatchObject(
    [1, 2].map((failures) => ({
      ...{ msg: 'manager cannot be used', address: absent, failures, code: 'server-unreachable' },
      reason: expect.stringMatching(`^${absent} cannot be reached: .*ECONNREFUSED`),
    })),
  );
  expect(JSON.stringify(warnings)).not.toMatch(/\bat .*:\d+:\d+/);
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
  await waitFor(() => agent.status().outboxDepth === 1);
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

it('obeys every manager that it was told of, also after a restart, and none that is no longer named', async () => {
  const w = await agentWorld(fake);
  const [other, stranger] = ['manager-2', 'manager-3'].map((id) => generateIdentity('manager', id));
  const clientOf = (manager: PeerIdentity, agent: Agent) =>
    createRpcClient<AgentRouter>({
      address: agent.status().address,
      identity: manager,
      serverKeys: [w.identity.publicKey],
      metas: agentMetas,
      headers: () => ({ epoch: 1 }),
      logger: w.logs.logger,
    });
  const orderOf = async (manager: PeerIdentity, agent: Agent): Promise<string> => {
    const client = clientOf(manager, agent);
    try {
      return await codeOf(client.connect());
    } finally {
      await client.close();
    }
  };
  w.gateway.managerKeys = [w.manager.publicKey, other!.publicKey];
  const first = await w.startAgent();
  expect(await orderOf(other!, first.agent)).toBe('no error');
  expect(await orderOf(stranger!, first.agent)).toBe('peer-rejected');
  w.gateway.managerKeys = undefined;
  await first.agent.close();
  const second = await w.startAgent();
  expect(await orderOf(other!, second.agent)).toBe('no error');
  const open = clientOf(other!, second.agent);
  onTestFinished(() => open.close());
  await open.connect();
  w.gateway.managerKeys = [w.manager.publicKey];
  await waitFor(() => open.state !== 'ready', { what: 'the connection of the other manager is cut' });
  expect(await orderOf(other!, second.agent)).toBe('peer-rejected');
});

it('refuses a manager that its join token names and that was revoked, and obeys those that a new token names', async () => {
  const w = await agentWorld(fake);
  const [other, rebuilt] = ['manager-2', 'manager-3'].map((id) => generateIdentity('manager', id));
  const order = async (manager: PeerIdentity, agent: Agent, epoch: number): Promise<string> => {
    const client = createRpcClient<AgentRouter>({
      address: agent.status().address,
      identity: manager,
      serverKeys: [w.identity.publicKey],
      metas: agentMetas,
      headers: () => ({ epoch }),
      logger: w.logs.logger,
    });
    try {
      return await codeOf(
        client.api.destroyKernel.mutate({ kernelId: newId(), reason: 'user-requested', forced: false }),
      );
    } finally {
      await client.close();
    }
  };
  const { text } = newJoinToken([other!.publicKey, w.manager.publicKey]);
  w.gateway.managerKeys = [w.manager.publicKey];
  const first = await w.startAgent({ managerKeys: [], joinToken: text });
  await first.agent.registered;
  expect(await order(other!, first.agent, 7)).toBe('peer-rejected');
  expect(await order(w.manager, first.agent, 7)).toBe('no error');
  await first.agent.close();
  const second = await w.startAgent({ managerKeys: [], joinToken: text });
  expect(await order(other!, second.agent, 7)).toBe('peer-rejected');
  await second.agent.close();
  // An installation made anew, with managers and epochs of its own.
  w.gateway.managerKeys = [rebuilt!.publicKey];
  const server = createRpcServer({
    router: createAgentGatewayRouter(w.gateway),
    identity: rebuilt!,
    directory: pinnedKeys('agent', [w.identity.publicKey]),
    allow: ['agent'],
    logger: w.logs.logger,
  });
  onTestFinished(() => server.close({ graceMs: 0 }));
  const third = await w.startAgent({
    managers: [server.listenInProcess(`manager-${randomUUID()}`).address],
    managerKeys: [],
    joinToken: newJoinToken([rebuilt!.publicKey]).text,
  });
  await third.agent.registered;
  expect(await order(rebuilt!, third.agent, 1)).toBe('no error');
  expect(await order(w.manager, third.agent, 8)).toBe('peer-rejected');
});

it('does not start when nothing tells it which managers to obey', async () => {
  const w = await agentWorld(fake);
  await expect(w.startAgent({ managerKeys: [] })).rejects.toMatchObject({ code: 'config-invalid' });
  await expect(w.startAgent({ managerKeys: [], joinToken: 'bai1.short' })).rejects.toMatchObject({
    code: 'config-invalid',
    message: expect.stringContaining('join token'),
  });
  const { text } = newJoinToken([generateIdentity('manager', 'm').publicKey, w.manager.publicKey]);
  await w.startAgent({ managerKeys: [], joinToken: text });
  expect(w.gateway.registrations).toHaveLength(1);
});
