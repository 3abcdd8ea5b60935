import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { agentWorld, runCode, textOf } from './agent-world.ts';
import { docker, dockerOptions, testImages } from './docker-world.ts';
import { orderFor, slotSpec, stateOf, untilSlot, warmSlotSuite } from './warm-slot-suite.ts';

const images = await testImages();
const image = images?.python ?? '';

if (images) {
  warmSlotSuite('the docker backend', {
    ...dockerOptions,
    image,
    steps: [
      ...['make-scratch', 'allocate-uid', 'write-facts', 'ensure-image', 'make-network'],
      ...['create-container', 'start-container', 'await-runner'],
    ],
  });
}

const factsOf = (dataDir: string, kernelId: string) => join(dataDir, 'scratch', kernelId, 'kernel.json');

async function containersOf(kernelId: string) {
  return await docker.listContainers({ all: true, filters: `{"label":["ai.backend.kernel-id=${kernelId}"]}` });
}

async function readySlot(options = {}) {
  const w = await agentWorld({ ...dockerOptions, ...options });
  const started = await w.startAgent();
  const slot = slotSpec(image);
  await started.api.keepWarmSlots.mutate({ slots: [slot] });
  await untilSlot(w, slot.slotId, 'ready');
  return { w, slot, ...started };
}

describe.skipIf(!images)('a container that was started ahead', () => {
  it('bears the label of its slot, and knows nothing of the session until it has it', async () => {
    const { w, slot, api } = await readySlot();
    const [before] = await containersOf(slot.slotId);
    expect(before?.Labels).toMatchObject({ 'ai.backend.warm-slot': slot.slotId });
    expect(before?.Labels).not.toHaveProperty('ai.backend.session-id');
    const dotfiles = [{ path: '.secret', mode: '600', content: 'of the tenant' }];
    const order = orderFor(slot, {
      ...{ sessionName: 'mine', accessKey: 'AKTENANT', environ: { MY_TOKEN: 'abc', USER: 'root' }, dotfiles },
      preopenPorts: [8099],
    });
    await api.createKernel.mutate(order);
    const started = await w.gateway.waitForEvent(slot.slotId, 'kernel-started');
    expect(started.services).toContainEqual(expect.objectContaining({ ports: [8099] }));
    const [after] = await containersOf(slot.slotId);
    expect(after?.Id).toBe(before?.Id);
    const code = [
      'import os, json',
      'names = ["MY_TOKEN", "USER", "BACKENDAI_SESSION_ID", "BACKENDAI_SESSION_NAME", "BACKENDAI_ACCESS_KEY",',
      '  "BACKENDAI_KERNEL_ID", "BACKENDAI_PREOPEN_PORTS", "PATH", "HOSTNAME"]',
      'secret = open(".secret").read()',
      'mode = oct(os.stat(".secret").st_mode & 0o777)',
      'owner = os.stat(".secret").st_uid == os.getuid()',
      'print(json.dumps([{n: os.environ.get(n) for n in names}, secret, mode, owner]))',
    ].join('\n');
    const [environ, secret, mode, owner] = JSON.parse(textOf(await runCode(api, slot.slotId, code)));
    expect(environ).toMatchObject({
      ...{ MY_TOKEN: 'abc', USER: 'work', BACKENDAI_SESSION_ID: order.sessionId, BACKENDAI_SESSION_NAME: 'mine' },
      ...{ BACKENDAI_ACCESS_KEY: 'AKTENANT', BACKENDAI_KERNEL_ID: slot.slotId, BACKENDAI_PREOPEN_PORTS: '8099' },
      ...{ PATH: expect.stringContaining('/bin'), HOSTNAME: order.hostname },
    });
    expect([secret, mode, owner]).toEqual(['of the tenant', '0o600', true]);
    const shell = { mode: 'batch', options: { exec: 'echo $MY_TOKEN $BACKENDAI_SESSION_NAME' } } as const;
    expect(textOf(await runCode(api, slot.slotId, shell))).toBe('abc mine\n');
  });

  it('has a network and a user id that no other one has', async () => {
    const { w, slot, api } = await readySlot();
    const other = slotSpec(image);
    await api.keepWarmSlots.mutate({ slots: [slot, other] });
    await untilSlot(w, other.slotId, 'ready');
    const seen = await Promise.all(
      [slot, other].map(async ({ slotId }) => {
        const [container] = await containersOf(slotId);
        const info = await docker.getContainer(container?.Id ?? '').inspect();
        return { user: info.Config.User, networks: Object.keys(info.NetworkSettings.Networks) };
      }),
    );
    expect(new Set(seen.flatMap(({ networks }) => networks)).size).toBe(2);
    if (process.getuid?.() === 0) expect(new Set(seen.map(({ user }) => user)).size).toBe(2);
  });

  it('is taken over by an agent that comes back, and can be handed over then', async () => {
    const { w, slot, agent } = await readySlot();
    const [before] = await containersOf(slot.slotId);
    await agent.close();
    const { agent: next, api } = await w.startAgent();
    expect(next.status().warmSlots).toMatchObject([{ slotId: slot.slotId, state: 'ready' }]);
    expect(next.status().used).toEqual(slot.slots);
    await api.createKernel.mutate(orderFor(slot, { environ: { MINE: 'yes' } }));
    await w.gateway.waitForEvent(slot.slotId, 'kernel-started');
    expect((await containersOf(slot.slotId))[0]?.Id).toBe(before?.Id);
    const code = 'import os; print(os.environ["MINE"], "PYTHON_VERSION" in os.environ or "PATH" in os.environ)';
    expect(textOf(await runCode(api, slot.slotId, code))).toBe('yes True\n');
  });

  it('that an agent finds dead when it comes back is removed', async () => {
    const { w, slot, agent } = await readySlot();
    await agent.close();
    const [container] = await containersOf(slot.slotId);
    await docker.getContainer(container?.Id ?? '').kill();
    const { agent: next } = await w.startAgent();
    expect(next.status().warmSlots).toEqual([]);
    await w.expectNoRemains(slot.slotId);
    expect(w.gateway.events).toEqual([]);
  });

  it('that dies is told of, and removed; the kernel that was to have it starts without', async () => {
    const { w, slot, api } = await readySlot();
    const [container] = await containersOf(slot.slotId);
    await docker.getContainer(container?.Id ?? '').kill();
    await untilSlot(w, slot.slotId, 'failed');
    await w.expectNoRemains(slot.slotId);
    expect(stateOf(w, slot.slotId)).toBe('failed');
    await api.createKernel.mutate(orderFor(slot));
    await w.gateway.waitForEvent(slot.slotId, 'kernel-started');
    expect((await containersOf(slot.slotId))[0]?.Id).not.toBe(container?.Id);
  });

  it('is never a slot again after it was claimed, whatever became of the agent', async () => {
    const { w, slot, agent, dataDir } = await (async () => {
      const ready = await readySlot();
      return { ...ready, dataDir: ready.w.dataDir };
    })();
    await agent.close();
    // As an agent leaves it that dies right after it wrote down whose the slot is.
    const path = factsOf(dataDir, slot.slotId);
    const facts = JSON.parse(readFileSync(path, 'utf8'));
    expect(facts).toMatchObject({ state: 'preparing', warm: { state: 'idle' } });
    const claimed = { ...facts, spec: orderFor(slot), warm: { ...facts.warm, state: 'claimed' } };
    writeFileSync(path, JSON.stringify(claimed));
    const { agent: next } = await w.startAgent();
    expect(next.status().warmSlots).toEqual([]);
    await w.gateway.waitForEvent(slot.slotId, 'kernel-start-failed');
    await w.expectNoRemains(slot.slotId);
    expect(existsSync(path)).toBe(false);
  });

  it('goes on as a kernel under an agent that comes back after it was handed over', async () => {
    const { w, slot, agent, api } = await readySlot();
    await api.createKernel.mutate(orderFor(slot));
    await w.gateway.waitForEvent(slot.slotId, 'kernel-started');
    await runCode(api, slot.slotId, 'x = 42');
    await agent.close();
    const { agent: next, api: again } = await w.startAgent();
    expect(next.status()).toMatchObject({ warmSlots: [], kernels: [{ kernelId: slot.slotId, state: 'running' }] });
    expect(textOf(await runCode(again, slot.slotId, 'print(x)'))).toBe('42\n');
    await again.destroyKernel.mutate({ kernelId: slot.slotId, reason: 'user-requested' });
    await w.gateway.waitForEvent(slot.slotId, 'kernel-terminated');
    await w.expectNoRemains(slot.slotId);
  });

  it('runs nothing but its runner while it waits', async () => {
    const { slot } = await readySlot();
    const [container] = await containersOf(slot.slotId);
    const { Processes } = await docker.getContainer(container?.Id ?? '').top({ ps_args: '-eo pid,args' });
    await waitFor(() => Processes.length > 0);
    expect(Processes.filter(([, args = '']) => !/runner\.py|docker-init/.test(args))).toEqual([]);
  });
});
