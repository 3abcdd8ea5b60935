import { tempDirectory, waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { foreignAgents } from './agent-in-process.ts';
import { agentWorld, kernelSpec, runCode, startKernel, textOf } from './agent-world.ts';
import { docker, dockerOptions, dockerRemains, testImages } from './docker-world.ts';
import { remainsOf } from './remains.ts';

const images = await testImages();
const python = { image: images.python };

async function containerOf(kernelId: string) {
  const [found] = await docker.listContainers({ filters: `{"label":["ai.backend.kernel-id=${kernelId}"]}` });
  return docker.getContainer(found?.Id ?? '');
}

/** What becomes of a kernel whose agent is killed after a step: nobody knows of it, its start has failed, or it runs. */
const outcomeOfKillAfter = {
  ...{ 'make-scratch': 'unknown', 'allocate-uid': 'unknown' },
  ...{ 'write-facts': 'failed', 'ensure-image': 'failed', 'make-network': 'failed' },
  ...{ 'create-container': 'failed', 'start-container': 'failed', 'await-runner': 'running' },
};
/** The others are tried in the heavier form. */
const usual = ['make-network', 'start-container', 'await-runner'];

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

  it('has no half kernels after it was killed between two steps of a start, and goes on with whole ones', async () => {
    const directory = await tempDirectory();
    const { remains: _, ...options } = dockerOptions;
    const { gateway, start } = await foreignAgents(directory, { ...options, strayGraceMs: 0 });
    const outcomes = Object.entries(outcomeOfKillAfter).filter(([step]) => process.env.SOAK || usual.includes(step));
    const kernels: Array<{ step: string; kernelId: string; outcome: string }> = [];
    for (const [step, outcome] of outcomes) {
      const { api, ended } = await start(step);
      const spec = kernelSpec({ image: images.busybox });
      // It may be gone before it answers.
      void api.createKernel.mutate(spec).catch(() => {});
      await ended();
      kernels.push({ step, kernelId: spec.kernelId, outcome });
    }
    const { api } = await start();
    const whole = kernels.filter(({ outcome }) => outcome === 'running').map(({ kernelId }) => kernelId);
    for (const { kernelId, outcome } of kernels) {
      if (outcome === 'failed') await gateway.waitForEvent(kernelId, 'kernel-start-failed');
      if (outcome === 'running') continue;
      // Networks of those that run are theirs.
      const remains = async () => [
        ...remainsOf(kernelId, directory),
        ...(await dockerRemains(kernelId, directory, whole.length)),
      ];
      await waitFor(async () => (await remains()).length === 0);
    }
    expect((await api.status.query()).kernels.map(({ kernelId }) => kernelId)).toEqual(whole);
    for (const kernelId of whole) {
      expect(textOf(await runCode(api, kernelId, 'echo here'))).toBe('here\n');
      await api.destroyKernel.mutate({ kernelId, reason: 'user-requested' });
      await gateway.waitForEvent(kernelId, 'kernel-terminated');
    }
    await waitFor(async () => (await dockerRemains(null, directory)).length === 0);
    // There is room for all that it may have.
    await api.createKernel.mutate(
      kernelSpec({ image: images.busybox, slots: { cpu: '8', mem: String(8 * 1024 ** 3) } }),
    );
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
