import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type AgentWorld, agentWorld, kernelSpec, runCode, textOf } from './agent-world.ts';
import { modes } from './modes.ts';

/** Somebody else's process, and a way to name it in the place of a kernel's first one. */
async function bystander(w: AgentWorld) {
  const child = spawn('sleep', ['600']);
  onTestFinished(() => void child.kill('SIGKILL'));
  await waitFor(() => child.pid !== undefined);
  const forge = (kernelId: string): void =>
    writeFileSync(join(w.dataDir, 'scratch', kernelId, 'status.json'), `{"child-pid": ${child.pid}}\n`);
  return { forge, lives: () => child.exitCode === null && child.signalCode === null };
}

describe.each(modes)('the first process of a kernel, with $name', ({ name: _, isolated: _isolated, ...mode }) => {
  it('is none but its own, whatever is written to the status file', async () => {
    const w = await agentWorld(mode);
    const { forge, lives } = await bystander(w);
    const { api } = await w.startAgent({ faults: { after: (step, kernelId) => step === 'launch' && forge(kernelId) } });
    const spec = kernelSpec();
    await api.createKernel.mutate(spec);
    await w.gateway.waitForEvent(spec.kernelId, 'kernel-started');
    forge(spec.kernelId);
    await api.destroyKernel.mutate({ kernelId: spec.kernelId, reason: 'user-requested', forced: true });
    await w.gateway.waitForEvent(spec.kernelId, 'kernel-terminated');
    await w.expectNoRemains(spec.kernelId);
    expect(lives()).toBe(true);
  });

  it('is none but its own after a restart of the agent', async () => {
    const w = await agentWorld(mode);
    const { forge, lives } = await bystander(w);
    const first = await w.startAgent();
    const running = kernelSpec();
    await first.api.createKernel.mutate(running);
    await w.gateway.waitForEvent(running.kernelId, 'kernel-started');
    await first.agent.close();
    forge(running.kernelId);
    const second = await w.startAgent();
    await second.api.destroyKernel.mutate({ kernelId: running.kernelId, reason: 'user-requested', forced: true });
    await w.gateway.waitForEvent(running.kernelId, 'kernel-terminated');
    await w.expectNoRemains(running.kernelId);
    expect(lives()).toBe(true);
  });

  it('leaves no descriptor of the status file to programs', async () => {
    const w = await agentWorld(mode);
    const { agent, api } = await w.startAgent();
    if (agent.status().isolation.sandbox === 'none' && !agent.status().isolation.ownUid) return;
    const spec = kernelSpec();
    await api.createKernel.mutate(spec);
    await w.gateway.waitForEvent(spec.kernelId, 'kernel-started');
    const code = `
import glob, os
def target(link):
    try:
        return os.readlink(link)
    except OSError:
        return ''
print([link for link in glob.glob('/proc/[0-9]*/fd/*') if 'status.json' in target(link)])`;
    expect(textOf(await runCode(api, spec.kernelId, code))).toBe('[]\n');
  });
});
