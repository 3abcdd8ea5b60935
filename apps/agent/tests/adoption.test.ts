import { chownSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { tempDirectory, waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { foreignAgents } from './agent-in-process.ts';
import { type AgentWorld, agentWorld, kernelSpec, rewriteFacts, runCode, startKernel, textOf } from './agent-world.ts';
import { modes } from './modes.ts';
import { remainsOf } from './remains.ts';

describe.each(modes)('an agent that comes back, with $name', ({ name: _, isolated: _isolated, ...mode }) => {
  it('takes over its kernels, with what they remember and the output they wrote meanwhile', async () => {
    const w = await agentWorld(mode);
    const first = await w.startAgent();
    const { kernelId, spec } = await startKernel(w, first.api);
    await runCode(first.api, kernelId, 'x = 42');
    const slow = 'import time\nfor i in range(5): print(i, flush=True); time.sleep(0.1)';
    await first.api.execute.mutate({ kernelId, mode: 'query', runId: 'slow', code: slow, holdMs: 0 });
    await first.agent.close();
    const before = w.gateway.events.length;
    const second = await w.startAgent();
    expect(second.agent.status()).toMatchObject({ used: spec.slots, kernels: [{ kernelId, state: 'running' }] });
    const rest = await runCode(second.api, kernelId, { mode: 'continue', runId: 'slow', cursor: 0 });
    expect(textOf(rest)).toBe('0\n1\n2\n3\n4\n');
    expect(textOf(await runCode(second.api, kernelId, 'print(x)'))).toBe('42\n');
    expect(w.gateway.events.length).toBe(before);
    await second.api.destroyKernel.mutate({ kernelId, reason: 'user-requested' });
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'user-requested' });
    await w.expectNoRemains(kernelId);
  });

  it('notices that an adopted kernel ends', async () => {
    const w = await agentWorld(mode);
    const first = await w.startAgent();
    const { kernelId } = await startKernel(w, first.api);
    await first.agent.close();
    const second = await w.startAgent();
    await runCode(second.api, kernelId, 'import os, signal\nwhile True: os.kill(os.getppid(), signal.SIGKILL)');
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({
      reason: 'self-terminated',
      exitCode: 137,
    });
    await w.expectNoRemains(kernelId);
  });

  it('reports what died meanwhile and keeps the deadlines of runs', async () => {
    const w = await agentWorld(mode);
    const first = await w.startAgent();
    const dead = await startKernel(w, first.api);
    const late = await startKernel(w, first.api);
    await first.api.execute.mutate({
      kernelId: late.kernelId,
      mode: 'query',
      code: 'while True: pass',
      timeoutMs: 1_500,
      holdMs: 0,
    });
    await first.agent.close();
    killKernel(w, dead.kernelId);
    await w.startAgent();
    expect(await w.gateway.waitForEvent(dead.kernelId, 'kernel-terminated')).toMatchObject({
      reason: 'self-terminated',
    });
    expect(await w.gateway.waitForEvent(late.kernelId, 'kernel-terminated')).toMatchObject({ reason: 'exec-timeout' });
    await w.expectNoRemains(dead.kernelId);
    await w.expectNoRemains(late.kernelId);
  });

  it('reports what has ended with its machine, and starts others', async () => {
    const w = await agentWorld(mode);
    const first = await w.startAgent();
    const { kernelId } = await startKernel(w, first.api);
    await first.agent.close();
    killKernel(w, kernelId);
    rewriteFacts(w, kernelId, { machineBootId: 'the one before' });
    const { api } = await w.startAgent();
    expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'host-restarted' });
    await w.expectNoRemains(kernelId);
    const next = await startKernel(w, api);
    expect(textOf(await runCode(api, next.kernelId, 'print(1)'))).toBe('1\n');
  });
});

/** While no agent follows it. */
function killKernel({ dataDir }: AgentWorld, kernelId: string): void {
  const facts = JSON.parse(readFileSync(join(dataDir, 'scratch', kernelId, 'kernel.json'), 'utf8'));
  process.kill((facts.init ?? facts.monitor).pid, 'SIGKILL');
  if (!facts.init) process.kill(-facts.monitor.pid, 'SIGKILL');
}

describe('an agent that is killed', () => {
  it('loses no kernel and no event, and sweeps only what nobody knows', async () => {
    const dataDir = await tempDirectory();
    const world = await foreignAgents(dataDir, { allowUnisolated: true });
    const first = await world.start();
    const running = kernelSpec();
    await first.api.createKernel.mutate(running);
    await world.gateway.waitForEvent(running.kernelId, 'kernel-started');
    await runCode(first.api, running.kernelId, 'x = 1');
    world.gateway.refuseEvents = new Error('the database is away');
    const unheard = kernelSpec();
    await first.api.createKernel.mutate(unheard);
    await waitFor(
      async () => (await first.api.checkKernel.query({ kernelId: unheard.kernelId })).state === 'running',
      {},
    );
    const starting = kernelSpec();
    await first.api.createKernel.mutate(starting);
    // Only the folder, its first trace: looking through all processes takes longer than the start that is to be met.
    await waitFor(() => existsSync(join(dataDir, 'scratch', starting.kernelId)), { intervalMs: 1 });
    await first.kill('SIGKILL');
    world.gateway.refuseEvents = undefined;
    const second = await world.start();
    await world.gateway.waitForEvent(unheard.kernelId, 'kernel-started');
    expect(world.gateway.events.map(({ seq }) => seq)).toEqual(world.gateway.events.map((_, index) => index + 1));
    expect(textOf(await runCode(second.api, running.kernelId, 'print(x)'))).toBe('1\n');
    const { kernels } = await second.api.status.query();
    const known = kernels.map(({ kernelId }) => kernelId);
    expect(known).toEqual(expect.arrayContaining([running.kernelId, unheard.kernelId]));
    if (!known.includes(starting.kernelId)) {
      await waitFor(() => remainsOf(starting.kernelId, dataDir).length === 0);
    }
    await second.kill('SIGTERM');
    for (const { kernelId } of [running, unheard, starting]) expect(remainsOf(kernelId, dataDir)).toEqual([]);
  }, 180_000);
});

describe.runIf(process.getuid?.() === 0).each(modes.filter(({ useCgroups }) => useCgroups !== false))(
  'an agent of an ordinary user, with $name',
  ({ name: _, isolated, ...mode }) => {
    it('runs a kernel from its start to its end', async () => {
      const dataDir = await tempDirectory();
      chownSync(dataDir, 65_534, 65_534);
      const asNobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--'];
      const world = await foreignAgents(dataDir, mode, asNobody);
      const { api, kill } = await world.start();
      const { isolation } = world.gateway.registrations[0] ?? {};
      expect(isolation).toMatchObject({ sandbox: mode.sandbox, ownUid: false, memory: 'watched' });
      const spec = kernelSpec({ slots: { cpu: '1', mem: String(128 * 1024 ** 2) } });
      await api.createKernel.mutate(spec);
      await world.gateway.waitForEvent(spec.kernelId, 'kernel-started');
      const seen = textOf(
        await runCode(api, spec.kernelId, 'import os; print(os.getcwd(), os.path.exists("/root/.pyenv"))'),
      );
      if (isolated) expect(seen).toBe('/home/work False\n');
      const lock = 'mkdir -p locked/inner && touch locked/inner/file && chmod 500 locked/inner && chmod 000 locked';
      expect(await runCode(api, spec.kernelId, { mode: 'batch', options: { exec: lock } })).toMatchObject({
        exitCode: 0,
      });
      const hog = `python3 -c 'import time; hog = b"x" * (400 << 20); time.sleep(30)'`;
      const killed = await runCode(api, spec.kernelId, { mode: 'batch', options: { exec: hog } });
      expect(killed.notices.map(({ code }) => code)).toContain('out-of-memory');
      await world.gateway.waitForEvent(spec.kernelId, 'kernel-terminated');
      expect(remainsOf(spec.kernelId, dataDir)).toEqual([]);
      await kill('SIGTERM');
    }, 180_000);
  },
);
