import { waitFor } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { agentWorld, runCode, type StartedAgent, startKernel, textOf, type WorldOptions } from './agent-world.ts';

/** What pausing is, whatever holds the programs still. */
export function pauseSuite(options: WorldOptions, image: { readonly image?: string }): void {
  const ticking = 'import time\nn = 0\nwhile n < 100000: n += 1; print(n, flush=True); time.sleep(0.01)';

  /** A kernel in which a program counts. */
  async function counting() {
    const w = await agentWorld(options);
    const started = await w.startAgent();
    const { kernelId } = await startKernel(w, started.api, image);
    await started.api.execute.mutate({ kernelId, mode: 'query', runId: 'count', code: ticking, holdMs: 0 });
    await moves(started, kernelId);
    return { w, started, kernelId };
  }

  const lines = async ({ api }: StartedAgent, kernelId: string): Promise<number> =>
    (await api.logs.query({ kernelId })).logs.split('\n').length;

  /** It goes on printing. */
  async function moves(started: StartedAgent, kernelId: string): Promise<void> {
    const before = await lines(started, kernelId);
    await waitFor(async () => (await lines(started, kernelId)) > before, { what: 'output' });
  }

  /** It prints nothing while its agent goes on telling how it is. What it printed before may still be on its way. */
  async function standsStill({ w, started, kernelId }: Awaited<ReturnType<typeof counting>>): Promise<void> {
    await waitFor(
      async () => {
        const before = await lines(started, kernelId);
        const told = w.gateway.heartbeats.length;
        await waitFor(() => w.gateway.heartbeats.length >= told + 5, { what: 'five heartbeats' });
        return (await lines(started, kernelId)) === before;
      },
      { what: 'five heartbeats without output' },
    );
  }

  const ended = async ({ w, started, kernelId }: Awaited<ReturnType<typeof counting>>, forced = false) => {
    await started.api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced });
    const end = await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
    expect(end).toMatchObject({ reason: 'user-requested' });
    await w.expectNoRemains(kernelId);
  };

  it('stands still and goes on where it was; what it did can be read meanwhile', async () => {
    const world = await counting();
    const { started, kernelId, w } = world;
    const { api } = started;
    await api.pauseKernel.mutate({ kernelId });
    await api.pauseKernel.mutate({ kernelId });
    expect(await api.checkKernel.query({ kernelId })).toMatchObject({ state: 'running', paused: true });
    await waitFor(() => w.gateway.heartbeats.at(-1)?.kernels[0]?.paused, { what: 'a heartbeat that says so' });
    await standsStill(world);
    const refused = { code: 'session-paused' };
    await expect(runCode(api, kernelId, '1')).rejects.toMatchObject(refused);
    await expect(api.interrupt.mutate({ kernelId })).rejects.toMatchObject(refused);
    await expect(api.complete.query({ kernelId, code: 'pri', position: 3 })).rejects.toMatchObject(refused);
    await expect(api.services.query({ kernelId })).rejects.toMatchObject(refused);
    for (const transfer of [
      { kind: 'upload', path: 'a', size: 1 },
      { kind: 'port', port: 8000 },
    ] as const) {
      await expect(api.openTransfer.mutate({ kernelId, transfer })).rejects.toMatchObject(refused);
    }
    expect((await api.listFiles.query({ kernelId })).files).toBeInstanceOf(Array);
    const read = await api.execute.mutate({ kernelId, mode: 'continue', runId: 'count', cursor: 0, holdMs: 0 });
    expect(textOf(read)).toMatch(/^1\n/);
    await api.resumeKernel.mutate({ kernelId });
    await api.resumeKernel.mutate({ kernelId });
    expect((await api.checkKernel.query({ kernelId })).paused).toBeUndefined();
    await moves(started, kernelId);
    await ended(world);
  });

  it.each([false, true])('is ended when it is paused, forced: %s', async (forced) => {
    const world = await counting();
    await world.started.api.pauseKernel.mutate({ kernelId: world.kernelId });
    await ended(world, forced);
  });

  it('is taken over paused by an agent that was started again', async () => {
    const { w, started, kernelId } = await counting();
    await started.api.pauseKernel.mutate({ kernelId });
    await started.agent.close();
    const second = await w.startAgent();
    expect(await second.api.checkKernel.query({ kernelId })).toMatchObject({ state: 'running', paused: true });
    await expect(runCode(second.api, kernelId, '1')).rejects.toMatchObject({ code: 'session-paused' });
    await second.api.resumeKernel.mutate({ kernelId });
    await moves(second, kernelId);
    await second.api.pauseKernel.mutate({ kernelId });
    await ended({ w, started: second, kernelId });
  });
}
