import { waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { agentWorld, codeOf, kernelSpec, runCode, startKernel, textOf, type WorldOptions } from './agent-world.ts';
import { mockGpus } from './mock-gpus.ts';

/** Of a kernel: each of these has a step of its own. */
const everythingOptional = {
  slots: { cpu: '1', mem: String(256 * 1024 ** 2), 'cuda.device': '1' },
  dotfiles: [{ path: '.settings', mode: '600', content: 'colour=blue' }],
  sshKeyPair: { publicKey: 'ssh-ed25519 AAAA work@cluster', privateKey: '-----BEGIN KEY-----\nsecret\n' },
  bootstrap: { script: 'true', timeoutMs: 60_000 },
};

/** What every backend does, whatever its kernels are made of. */
export interface SuiteOptions extends WorldOptions {
  readonly steps: readonly string[];
  /** Instead of those that processes have. An order for one that is not among them is taken: it might be fetched. */
  readonly images?: { readonly python: string; readonly shell: string } | undefined;
}

export function kernelSuite(name: string, options: SuiteOptions): void {
  const { steps, images, ...world } = options;
  const shell = { image: images?.shell ?? 'local/shell' };
  const python = { image: images?.python ?? 'local/python:3.11' };
  const isFake = name === 'the fake backend';

  describe(`kernels on ${name}`, () => {
    it('reports a kernel that starts, with a timing for each step, and runs code in it', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const { kernelId, spec, started } = await startKernel(w, api, python);
      expect(w.gateway.of(kernelId).map(({ type }) => type)).toEqual([
        'kernel-preparing',
        'kernel-creating',
        'kernel-started',
      ]);
      if (started.type !== 'kernel-started') throw new Error('unreachable');
      expect(started.steps.map(({ step }) => step)).toEqual(['reserve-resources', ...steps]);
      expect(started.isolation).toEqual(agent.status().isolation);
      expect(started.sessionId).toBe(spec.sessionId);
      expect(await api.checkKernel.query({ kernelId })).toMatchObject({ state: 'running', slots: spec.slots });
      const code = isFake ? 'hello' : 'print("hello")';
      const result = await runCode(api, kernelId, code);
      expect(result).toMatchObject({ status: 'finished', exitCode: 0, notices: [] });
      expect(textOf(result)).toBe('hello\n');
    });

    it('carries the request id of an order into its events and its run', async () => {
      const w = await agentWorld(world);
      const { api } = await w.startAgent();
      const { kernelId } = await startKernel(w, api, shell);
      await api.destroyKernel.mutate({ kernelId, reason: 'user-requested' });
      const terminated = await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
      const [preparing, creating, started] = w.gateway.of(kernelId).map(({ requestId }) => requestId);
      expect(new Set([preparing, creating, started]).size).toBe(1);
      expect(terminated.requestId).not.toBe(started);
    });

    it('starts a kernel once, however often it is ordered', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const spec = kernelSpec(shell);
      await Promise.all([1, 2, 3].map(() => api.createKernel.mutate(spec)));
      await w.gateway.waitForEvent(spec.kernelId, 'kernel-started');
      await api.createKernel.mutate(spec);
      expect(agent.status().used).toEqual(spec.slots);
      expect(w.gateway.of(spec.kernelId)).toHaveLength(3);
    });

    it('does not start a kernel again that ran and ended, but tells its end again', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const { kernelId, spec } = await startKernel(w, api, shell);
      await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
      const first = await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
      await api.createKernel.mutate(spec);
      await waitFor(() => w.gateway.of(kernelId).length === 5);
      expect(w.gateway.of(kernelId).at(-1)).toMatchObject({ type: 'kernel-terminated', reason: first.reason });
      expect(agent.status().kernels).toEqual([]);
    });

    it('ends a kernel on order and gives back what it held', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const { kernelId } = await startKernel(w, api, shell);
      expect(agent.status().used).not.toEqual({});
      await api.destroyKernel.mutate({ kernelId, reason: 'user-requested' });
      expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'user-requested' });
      expect(agent.status()).toMatchObject({ used: {}, kernels: [] });
      expect(await api.checkKernel.query({ kernelId })).toMatchObject({
        state: 'terminated',
        reason: 'user-requested',
      });
      expect(await codeOf(api.execute.mutate({ kernelId, mode: 'query', code: '1' }))).toBe('kernel-not-found');
    });

    it('tells with its heartbeats what a kernel uses, until it ends', async () => {
      const w = await agentWorld({ ...world, measureEveryMs: 100 });
      const { api } = await w.startAgent();
      const { kernelId } = await startKernel(w, api, python);
      const newest = () => w.gateway.heartbeats.at(-1)?.measurements?.find((each) => each.kernelId === kernelId);
      const first = await waitFor(() => newest()?.cpuPercent !== null && newest(), { what: 'a rate' });
      if (name !== 'the fake backend') {
        const code = 'held = bytearray(64 * 1024 * 1024)\nfor i in range(3_000_000): pass';
        await runCode(api, kernelId, code);
        const used = await waitFor(
          () => {
            const now = newest();
            return now && (now.memoryBytes ?? 0) > (first.memoryBytes ?? 0) + 48 * 1024 ** 2 && now;
          },
          { what: 'more memory' },
        );
        expect(used.cpuMs).toBeGreaterThan(first.cpuMs ?? 0);
        expect(used.memoryPeakBytes).toBeGreaterThanOrEqual(used.memoryBytes ?? 0);
      }
      expect(w.gateway.heartbeats.at(-1)?.machine).toMatchObject({ mem: { unit: 'bytes' }, disk: { unit: 'bytes' } });
      await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
      const { metrics } = await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
      expect(metrics?.cpu_used?.current).toBeGreaterThanOrEqual(newest()?.metrics?.cpu_used?.current ?? 0);
      await waitFor(() => newest() === undefined, { what: 'no measurement of the ended kernel' });
    });

    it('tells what a kernel writes piece by piece, also after a restart of the agent, until the end', async () => {
      const w = await agentWorld(world);
      const first = await w.startAgent();
      const { kernelId } = await startKernel(w, first.api, python);
      const lines = (from: number) => `for i in range(${from}, ${from} + 5): print('line', i)`;
      await runCode(first.api, kernelId, lines(0));
      const begin = await waitFor(async () => {
        const chunk = await first.api.readLog.query({ kernelId, cursor: null, holdMs: 1_000 });
        return chunk.text !== '' && chunk;
      });
      let api = first.api;
      if (!isFake) {
        await first.agent.close();
        api = (await w.startAgent()).api;
      }
      await runCode(api, kernelId, lines(5));
      await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
      await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
      let { text, cursor } = begin;
      for (;;) {
        const chunk = await api.readLog.query({ kernelId, cursor, maxBytes: 16 });
        expect(chunk.missed).toBe(false);
        if (chunk.ended) break;
        text += chunk.text;
        cursor = chunk.cursor;
      }
      if (isFake) expect(text).toBe(`${lines(0)}\n${lines(5)}\n`);
      else expect(text.match(/^line \d$/gm)).toEqual(Array.from({ length: 10 }, (_, n) => `line ${n}`));
    });

    it('counts an unknown kernel as ended', async () => {
      const w = await agentWorld(world);
      const { api } = await w.startAgent();
      const { kernelId } = kernelSpec();
      await api.destroyKernel.mutate({ kernelId, reason: 'user-requested' });
      await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
      expect(await codeOf(api.checkKernel.query({ kernelId }))).toBe('kernel-not-found');
    });

    it('gives a start up when the kernel is destroyed meanwhile', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const spec = kernelSpec({ ...python, ...(isFake ? { fake: { startDelayMs: 30_000 } } : {}) });
      await api.createKernel.mutate(spec);
      await api.destroyKernel.mutate({ kernelId: spec.kernelId, reason: 'user-requested' });
      expect(await w.gateway.waitForEvent(spec.kernelId, 'kernel-terminated')).toMatchObject({
        reason: 'user-requested',
      });
      expect(w.gateway.of(spec.kernelId).map(({ type }) => type)).not.toContain('kernel-started');
      expect(agent.status()).toMatchObject({ used: {}, kernels: [] });
      await api.createKernel.mutate({ ...spec, fake: undefined });
      await w.gateway.waitForEvent(spec.kernelId, 'kernel-started');
    });

    it('refuses more than it has, and an image it does not offer', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent({ slots: { cpu: '2', mem: String(1024 ** 3) } });
      expect(await codeOf(api.createKernel.mutate(kernelSpec({ slots: { cpu: '3' } })))).toBe('insufficient-capacity');
      expect(await codeOf(api.createKernel.mutate(kernelSpec({ slots: { 'cuda.device': '1' } })))).toBe(
        'insufficient-capacity',
      );
      const unknown = kernelSpec({ image: 'local/cobol' });
      const answer = await codeOf(api.createKernel.mutate(unknown));
      if (!images) expect(answer).toBe('unknown-image');
      else {
        const failed = await w.gateway.waitForEvent(unknown.kernelId, 'kernel-start-failed');
        expect(failed).toMatchObject({ failedStep: 'ensure-image', error: { code: 'unknown-image' } });
      }
      await waitFor(() => agent.status().outboxDepth === 0);
      expect(agent.status()).toMatchObject({ used: {}, kernels: [], outboxDepth: 0 });
    });

    it('obeys the newest leader only', async () => {
      let epoch: number | undefined = 7;
      const w = await agentWorld({ ...world, epoch: () => epoch as number });
      const first = await w.startAgent();
      const spec = kernelSpec(shell);
      await first.api.createKernel.mutate(spec);
      epoch = 6;
      expect(await codeOf(first.api.createKernel.mutate(kernelSpec(shell)))).toBe('stale-epoch');
      expect(await codeOf(first.api.destroyKernel.mutate({ kernelId: spec.kernelId, reason: 'x' }))).toBe(
        'stale-epoch',
      );
      epoch = undefined;
      expect(await codeOf(first.api.createKernel.mutate(kernelSpec(shell)))).toBe('stale-epoch');
      await w.gateway.waitForEvent(spec.kernelId, 'kernel-started');
      await first.agent.endKernels();
      await first.agent.close();
      const second = await w.startAgent();
      epoch = 6;
      expect(await codeOf(second.api.createKernel.mutate(kernelSpec(shell)))).toBe('stale-epoch');
      epoch = 8;
      await second.api.destroyKernel.mutate({ kernelId: spec.kernelId, reason: 'user-requested' });
      expect(second.agent.status().epoch).toBe(8);
    });

    it.each(['before', 'after'] as const)(
      'leaves nothing behind when a step fails, whichever, %s it runs',
      async (when) => {
        const w = await agentWorld({ ...world, accelerators: await mockGpus() });
        let failing = '';
        const fault = (step: string): void => {
          if (step === failing) throw new Error('injected');
        };
        const { agent, api } = await w.startAgent({ faults: { [when]: fault } });
        const wanted = { ...shell, ...everythingOptional };
        const { kernelId, started } = await startKernel(w, api, wanted);
        if (started.type !== 'kernel-started') throw new Error('unreachable');
        const ran = started.steps.map(({ step }) => step);
        const optional = ['attach-devices', ...(isFake ? [] : ['furnish-home', 'bootstrap'])];
        expect(ran).toEqual(expect.arrayContaining(['reserve-resources', ...steps, ...optional]));
        await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
        await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
        let spec = kernelSpec(wanted);
        for (failing of ran) {
          spec = kernelSpec(wanted);
          await api.createKernel.mutate(spec);
          const failed = await w.gateway.waitForEvent(spec.kernelId, 'kernel-start-failed');
          expect(failed).toMatchObject({ failedStep: failing, error: { code: 'kernel-start-failed' } });
          expect(agent.status()).toMatchObject({ used: {}, kernels: [], heldDevices: {} });
          await w.expectNoRemains(spec.kernelId);
        }
        failing = '';
        await api.createKernel.mutate(spec);
        await w.gateway.waitForEvent(spec.kernelId, 'kernel-started');
      },
    );

    it.each([
      ['success', 'echo hello', { result: 'success', exitCode: 0, reason: 'task-finished' }],
      ['failure', 'exit 3', { result: 'failure', exitCode: 3, reason: 'task-failed' }],
    ])('runs a batch job as soon as the kernel runs, and tells its %s', async (_, startupCommand, end) => {
      const w = await agentWorld(world);
      const { api } = await w.startAgent();
      const { kernelId } = await startKernel(w, api, { ...shell, batch: { startupCommand } });
      expect(await w.gateway.waitForEvent(kernelId, 'batch-finished')).toMatchObject(end);
      expect(w.gateway.of(kernelId).map(({ type }) => type)).toEqual([
        'kernel-preparing',
        'kernel-creating',
        'kernel-started',
        'batch-finished',
      ]);
      expect(await api.checkKernel.query({ kernelId })).toMatchObject({ state: 'running', batch: end });
      if (startupCommand === 'echo hello') expect((await api.logs.query({ kernelId })).logs).toContain('hello\n');
    });

    it('ends a batch job at its time limit', async () => {
      const w = await agentWorld(world);
      const { api } = await w.startAgent();
      const { kernelId } = await startKernel(w, api, {
        ...shell,
        ...(isFake ? { fake: { batchMs: 60_000 } } : {}),
        batch: { startupCommand: 'sleep 60', timeoutMs: 300 },
      });
      expect(await w.gateway.waitForEvent(kernelId, 'batch-finished')).toMatchObject({
        result: 'failure',
        exitCode: -2,
        reason: 'task-timeout',
      });
      await api.destroyKernel.mutate({ kernelId, reason: 'user-requested' });
      await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
      expect(w.gateway.of(kernelId).filter(({ type }) => type === 'batch-finished')).toHaveLength(1);
    });

    it('tells no end of a batch job whose kernel is ended', async () => {
      const w = await agentWorld(world);
      const { api } = await w.startAgent();
      const { kernelId } = await startKernel(w, api, {
        ...shell,
        ...(isFake ? { fake: { batchMs: 60_000 } } : {}),
        batch: { startupCommand: 'sleep 60' },
      });
      await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
      await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
      expect(w.gateway.of(kernelId).map(({ type }) => type)).not.toContain('batch-finished');
    });

    it('runs a bootstrap script before the kernel counts as running', async () => {
      const w = await agentWorld(world);
      const { api } = await w.startAgent();
      const bootstrap = { script: 'echo prepared > prepared', timeoutMs: 10_000 };
      const { kernelId, started } = await startKernel(w, api, { ...shell, bootstrap });
      if (started.type !== 'kernel-started') throw new Error('unreachable');
      expect(started.steps.at(-1)?.step).toBe('bootstrap');
      if (!isFake) expect(textOf(await runCode(api, kernelId, 'cat prepared'))).toBe('prepared\n');
    });

    it('does not start a kernel whose bootstrap script fails', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const spec = kernelSpec({
        ...shell,
        bootstrap: { script: isFake ? 'exit 7' : 'echo oops; exit 7', timeoutMs: 10_000 },
      });
      await api.createKernel.mutate(spec);
      const failed = await w.gateway.waitForEvent(spec.kernelId, 'kernel-start-failed');
      expect(failed).toMatchObject({
        failedStep: 'bootstrap',
        error: { code: 'kernel-start-failed', data: { step: 'bootstrap', exitCode: 7 } },
      });
      if (!isFake) expect(failed.log).toContain('oops\n');
      expect(agent.status()).toMatchObject({ used: {}, kernels: [] });
      await w.expectNoRemains(spec.kernelId);
    });

    it('tells of the ports that programs of the user will listen on', async () => {
      const w = await agentWorld(world);
      const { api } = await w.startAgent();
      const { started } = await startKernel(w, api, { ...shell, preopenPorts: [8080] });
      expect(started).toMatchObject({ services: [{ name: '8080', protocol: 'preopen', ports: [8080] }] });
    });

    it('ends everything when the cluster is shut down', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const kernels = await Promise.all([1, 2, 3].map(() => startKernel(w, api, shell)));
      expect(await agent.endKernels('cluster-shutdown', 60_000)).toEqual([]);
      for (const { kernelId } of kernels) {
        expect(w.gateway.of(kernelId).at(-1)).toMatchObject({ type: 'kernel-terminated', reason: 'cluster-shutdown' });
        await w.expectNoRemains(kernelId);
      }
    });

    it('ends kernels that the manager has given up, and starts none of them again by an order that comes late', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const { kernelId, spec } = await startKernel(w, api, shell);
      w.gateway.unknownKernels = [kernelId];
      expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'kernel-lost' });
      await api.createKernel.mutate(spec);
      await waitFor(() => w.gateway.of(kernelId).filter(({ type }) => type === 'kernel-terminated').length > 1);
      expect(w.gateway.of(kernelId).filter(({ type }) => type === 'kernel-started')).toHaveLength(1);
      expect(agent.status().kernels).toEqual([]);
    });
  });
}
