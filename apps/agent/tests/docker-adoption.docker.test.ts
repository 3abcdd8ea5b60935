import { tempDirectory, waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { foreignAgents } from './agent-in-process.ts';
import { agentWorld, kernelSpec, runCode, startKernel, textOf } from './agent-world.ts';
import { docker, dockerOptions, dockerRemains, testImages } from './docker-world.ts';

const images = await testImages();
const python = { image: images.python };

async function containerOf(kernelId: string) {
  const [found] = await docker.listContainers({ filters: `{"label":["ai.backend.kernel-id=${kernelId}"]}` });
  return docker.getContainer(found?.Id ?? '');
}

describe('an agent of containers that comes back', () => {
  it('takes over its kernels, with what they remember and the output they wrote meanwhile', async () => {
    const w = await agentWorld(dockerOptions);
    const first = await w.startAgent();
    const { kernelId, spec } = await startKernel(w, first.api, python);
    await runCode(first.api, kernelId, 'x = 42');
    const slow = 'import time\nfor i in range(5): print(i, flush=True); time.sleep(0.1)';
    await first.api.execute.mutate({ kernelId, mode: 'query', runId: 'slow', code: slow, holdMs: 0 });
    await first.agent.close();
    const second = await w.startAgent();
    expect(second.agent.status()).toMatchObject({ used: spec.slots, kernels: [{ kernelId, state: 'running' }] });
    const rest = await runCode(second.api, kernelId, { mode: 'continue', runId: 'slow', cursor: 0 });
    expect(textOf(rest)).toBe('0\n1\n2\n3\n4\n');
    expect(textOf(await runCode(second.api, kernelId, 'print(x)'))).toBe('42\n');
    await second.api.destroyKernel.mutate({ kernelId, reason: 'user-requested' });
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'user-requested' });
    await w.expectNoRemains(kernelId);
  });

  it('takes them over, too, after it was killed in the middle of an execution', async () => {
    const directory = await tempDirectory();
    const { remains: _, ...options } = dockerOptions;
    const { gateway, start } = await foreignAgents(directory, options);
    const first = await start();
    const spec = kernelSpec(python);
    await first.api.createKernel.mutate(spec);
    await gateway.waitForEvent(spec.kernelId, 'kernel-started');
    const { kernelId } = spec;
    const slow = 'import time\nfor i in range(20): print(i, flush=True); time.sleep(0.1)';
    await first.api.execute.mutate({ kernelId, mode: 'query', runId: 'slow', code: slow, holdMs: 0 });
    await first.kill('SIGKILL');
    const second = await start();
    const rest = await runCode(second.api, kernelId, { mode: 'continue', runId: 'slow', cursor: 0 });
    expect(textOf(rest).trimEnd().split('\n')).toHaveLength(20);
    await second.api.destroyKernel.mutate({ kernelId, reason: 'user-requested' });
    await gateway.waitForEvent(kernelId, 'kernel-terminated');
    await waitFor(async () => (await dockerRemains(kernelId, directory)).length === 0);
  });

  it('reports those that were killed meanwhile, with exit code and the end of their log', async () => {
    const w = await agentWorld(dockerOptions);
    const first = await w.startAgent();
    const { kernelId } = await startKernel(w, first.api, python);
    await runCode(first.api, kernelId, { mode: 'batch', options: { exec: 'echo last words' } });
    await first.agent.close();
    const container = await containerOf(kernelId);
    await container.kill();
    await container.wait();
    await w.startAgent();
    const end = await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
    expect(end).toMatchObject({ reason: 'self-terminated', exitCode: 137, log: expect.stringContaining('last words') });
    await w.expectNoRemains(kernelId);
  });

  it('reports those as lost whose container somebody has removed', async () => {
    const w = await agentWorld(dockerOptions);
    const first = await w.startAgent();
    const { kernelId } = await startKernel(w, first.api, python);
    await first.agent.close();
    await (await containerOf(kernelId)).remove({ force: true });
    await w.startAgent();
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'kernel-lost' });
    await w.expectNoRemains(kernelId);
  });

  it('notices that an adopted kernel ends', async () => {
    const w = await agentWorld(dockerOptions);
    const first = await w.startAgent();
    const { kernelId } = await startKernel(w, first.api, python);
    await first.agent.close();
    await w.startAgent();
    await (await containerOf(kernelId)).kill();
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({
      reason: 'self-terminated',
      exitCode: 137,
    });
    await w.expectNoRemains(kernelId);
  });

  it('cleans up after a start that its earlier life did not finish', async () => {
    const w = await agentWorld(dockerOptions);
    const first = await w.startAgent({
      faults: {
        after: (step) => {
          if (step === 'start-container') void first.agent.close();
        },
      },
    });
    const spec = kernelSpec(python);
    await first.api.createKernel.mutate(spec);
    await w.expectNoRemains(spec.kernelId);
  });

  it('does not mix containers with processes in one folder', async () => {
    const w = await agentWorld(dockerOptions);
    const processes = await w.startAgent({ backend: 'process' });
    const { kernelId } = await startKernel(w, processes.api);
    await processes.agent.close();
    await expect(w.startAgent()).rejects.toMatchObject({ code: 'config-invalid', data: { kernels: [kernelId] } });
    const back = await w.startAgent({ backend: 'auto' });
    expect(back.agent.status()).toMatchObject({ backend: 'process', kernels: [{ kernelId, state: 'running' }] });
  });
});
