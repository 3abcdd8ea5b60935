import { waitFor } from '@backend.ai/testing';
import Docker from 'dockerode';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { canStartEngine, DevEngine } from '../../../scripts/dev-servers/index.ts';
import { labels } from '../src/backends/docker/labels.ts';
import {
  type AgentWorld,
  agentWorld,
  kernelSpec,
  rewriteFacts,
  runCode,
  type StartedAgent,
  startKernel,
  textOf,
  type WorldOptions,
} from './agent-world.ts';

const image = 'backend.ai/shell:latest';
const shell = { image };

describe.skipIf(!canStartEngine())('an engine that ends while kernels run', () => {
  let engine: DevEngine;
  let options: WorldOptions;

  beforeAll(async () => {
    engine = await DevEngine.withImages(image);
    const own = new Docker({ socketPath: engine.socket });
    options = {
      backend: 'docker',
      docker: { socket: engine.socket, subnetPool: '10.97.0.0/20', spareNetworks: 0 },
      remains: async (kernelId) => {
        const containers = await own.listContainers({ all: true });
        const networks = await own.listNetworks({ filters: '{"type":["custom"]}' });
        return [
          ...containers
            .filter(({ Labels }) => kernelId === null || Labels[labels.kernel] === kernelId)
            .map(({ Id }) => Id),
          ...networks.map(({ Name }) => Name),
        ];
      },
    };
  });
  afterAll(() => engine?.remove());
  beforeEach(async () => {
    await engine.stop();
    await engine.start();
  });

  async function expectThatOthersStart(w: AgentWorld, { agent, api }: Pick<StartedAgent, 'agent' | 'api'>) {
    await waitFor(() => agent.status().outage === null);
    const { kernelId } = await startKernel(w, api, shell);
    expect(textOf(await runCode(api, kernelId, 'echo here'))).toBe('here\n');
    await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({
      reason: 'user-requested',
    });
    await w.expectNoRemains(kernelId);
  }

  it.each(['stop', 'kill'] as const)('takes them along, which is told when it is back, after a %s', async (end) => {
    const w = await agentWorld(options);
    const { api, agent } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, shell);
    await engine[end]();
    await engine.start();
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({
      reason: 'engine-restarted',
    });
    await w.expectNoRemains(kernelId);
    expect(agent.status()).toMatchObject({ kernels: [], used: {} });
    await expectThatOthersStart(w, { agent, api });
  });

  it('leaves them alone where it lets containers outlive it, for the agent that is there and for one that comes back', async () => {
    await engine.stop();
    await engine.start({ liveRestore: true });
    const w = await agentWorld(options);
    const first = await w.startAgent();
    const { kernelId } = await startKernel(w, first.api, shell);
    await runCode(first.api, kernelId, 'x=42');
    await engine.stop();
    expect(textOf(await runCode(first.api, kernelId, 'echo $x'))).toBe('42\n');
    await engine.start({ liveRestore: true });
    await first.agent.close();
    await engine.kill();
    await engine.start({ liveRestore: true });
    const second = await w.startAgent();
    expect(second.agent.status()).toMatchObject({ kernels: [{ kernelId, state: 'running' }] });
    expect(textOf(await runCode(second.api, kernelId, 'echo $x'))).toBe('42\n');
    await second.api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
    await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
    await w.expectNoRemains(kernelId);
  });

  it('is waited for by an agent that starts without it, which keeps its kernels and takes no others until then', async () => {
    const w = await agentWorld(options);
    const first = await w.startAgent();
    const { kernelId, spec } = await startKernel(w, first.api, shell);
    const { images, isolation } = first.agent.status();
    await first.agent.close();
    await engine.stop();
    const { api, agent } = await w.startAgent();
    expect(w.gateway.registrations.at(-1)).toMatchObject({ images, isolation });
    expect(agent.status()).toMatchObject({
      outage: expect.stringMatching(/does not answer/),
      used: spec.slots,
      kernels: [{ kernelId, unknown: true }],
    });
    await waitFor(() => w.gateway.heartbeats.at(-1)?.kernels.some((each) => each.kernelId === kernelId));
    await expect(api.execute.mutate({ kernelId, mode: 'query', code: 'true' })).rejects.toMatchObject({
      code: 'engine-unavailable',
    });
    await expect(api.createKernel.mutate(kernelSpec(shell))).rejects.toMatchObject({ code: 'engine-unavailable' });
    await engine.start();
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'engine-restarted' });
    await w.expectNoRemains(kernelId);
    // With what it finds out then.
    await waitFor(() => w.gateway.registrations.length >= 3);
    await expectThatOthersStart(w, { agent, api });
  });

  it('comes back with its machine: what ran there has ended, what was about to start has failed, and others start', async () => {
    const w = await agentWorld(options);
    const first = await w.startAgent();
    const running = await startKernel(w, first.api, shell);
    const starting = await startKernel(w, first.api, shell);
    await first.agent.close();
    await engine.loseHost();
    rewriteFacts(w, running.kernelId, { machineBootId: 'the one before' });
    rewriteFacts(w, starting.kernelId, { machineBootId: 'the one before', state: 'preparing' });
    await engine.start();
    const { api, agent } = await w.startAgent();
    const ended = await w.gateway.waitForEvent(running.kernelId, 'kernel-terminated');
    expect(ended).toMatchObject({ reason: 'host-restarted' });
    await w.gateway.waitForEvent(starting.kernelId, 'kernel-start-failed');
    for (const { kernelId } of [running, starting]) await w.expectNoRemains(kernelId);
    await waitFor(() => agent.status().kernels.length === 0);
    await expectThatOthersStart(w, { agent, api });
  });
});
