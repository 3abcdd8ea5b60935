import { randomUUID } from 'node:crypto';
import type { KernelSpec, WarmSlotSpec } from '@backend.ai/contract';
import { waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { type AgentWorld, agentWorld, codeOf, kernelSpec, runCode, textOf, type WorldOptions } from './agent-world.ts';

export interface WarmSlotSuiteOptions extends WorldOptions {
  readonly image: string;
  /** Of making a slot, in order. */
  readonly steps: readonly string[];
}

export const amounts = { cpu: '1', mem: String(256 * 1024 ** 2) };

export function slotSpec(image: string): WarmSlotSpec {
  return { slotId: randomUUID(), image, slots: amounts };
}

/** The order that takes a slot. */
export function orderFor({ slotId, image, slots }: WarmSlotSpec, more: Partial<KernelSpec> = {}): KernelSpec {
  return kernelSpec({ kernelId: slotId, image, slots, ...more });
}

export const stateOf = (w: AgentWorld, slotId: string) =>
  w.gateway.warmSlots.find((slot) => slot.slotId === slotId)?.state;

export async function untilSlot(w: AgentWorld, slotId: string, state: 'ready' | 'failed' | 'starting' | undefined) {
  await waitFor(() => stateOf(w, slotId) === state, { what: `slot ${slotId} is ${state}` });
}

/** What every backend does that starts kernels ahead. */
export function warmSlotSuite(name: string, { image, steps, ...world }: WarmSlotSuiteOptions): void {
  const isFake = name === 'the fake backend';
  const hello = isFake ? 'hello' : 'print("hello")';

  describe(`warm slots on ${name}`, () => {
    it('are started when they are wished, hold resources, and are no kernels', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      expect(w.gateway.registrations[0]?.features).toEqual(['warm-slots']);
      const slot = slotSpec(image);
      await api.keepWarmSlots.mutate({ slots: [slot] });
      await untilSlot(w, slot.slotId, 'ready');
      expect(agent.status()).toMatchObject({ kernels: [], used: amounts, warmSlots: [{ slotId: slot.slotId }] });
      const { slotId: kernelId } = slot;
      expect(await codeOf(api.checkKernel.query({ kernelId }))).toBe('kernel-not-found');
      expect(await codeOf(api.execute.mutate({ kernelId, mode: 'query', code: '1' }))).toBe('kernel-not-found');
      expect(w.gateway.events).toEqual([]);
      await api.keepWarmSlots.mutate({ slots: [] });
      await untilSlot(w, slot.slotId, undefined);
      await w.expectNoRemains(slot.slotId);
      await waitFor(() => Object.keys(agent.status().used).length === 0);
    });

    it('become the kernel of an order, which runs as any other and leaves nothing', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const slot = slotSpec(image);
      await api.keepWarmSlots.mutate({ slots: [slot] });
      await untilSlot(w, slot.slotId, 'ready');
      const order = orderFor(slot);
      await api.createKernel.mutate(order);
      const started = await w.gateway.waitForEvent(order.kernelId, 'kernel-started');
      expect(started.sessionId).toBe(order.sessionId);
      const names = started.steps.map(({ step }) => step);
      expect(names).toEqual(expect.arrayContaining(['reserve-resources', 'claim-slot', 'hand-over']));
      for (const step of steps) if (step !== 'write-facts') expect(names).not.toContain(step);
      expect(agent.status()).toMatchObject({ used: amounts, warmSlots: [], kernels: [{ kernelId: order.kernelId }] });
      expect(textOf(await runCode(api, order.kernelId, hello))).toBe('hello\n');
      // The manager's last word may be of before.
      await api.keepWarmSlots.mutate({ slots: [slot] });
      expect(agent.status().warmSlots).toEqual([]);
      await api.destroyKernel.mutate({ kernelId: order.kernelId, reason: 'user-requested' });
      await w.gateway.waitForEvent(order.kernelId, 'kernel-terminated');
      await w.expectNoRemains(order.kernelId);
      expect(agent.status()).toMatchObject({ used: {}, kernels: [], warmSlots: [] });
      // Nor may it be there again.
      await api.keepWarmSlots.mutate({ slots: [slot] });
      expect(agent.status().warmSlots).toEqual([]);
    });

    it('are handed over once, however often the order comes', async () => {
      const w = await agentWorld(world);
      const { api } = await w.startAgent();
      const slot = slotSpec(image);
      await api.keepWarmSlots.mutate({ slots: [slot] });
      await untilSlot(w, slot.slotId, 'ready');
      const order = orderFor(slot);
      await Promise.all([1, 2, 3].map(() => api.createKernel.mutate(order)));
      await w.gateway.waitForEvent(order.kernelId, 'kernel-started');
      await api.createKernel.mutate(order);
      expect(w.gateway.of(order.kernelId).map(({ type }) => type)).toEqual(['kernel-preparing', 'kernel-started']);
    });

    it('run a bootstrap script before the kernel counts as running', async () => {
      const w = await agentWorld(world);
      const { api } = await w.startAgent();
      const [good, bad] = [slotSpec(image), slotSpec(image)];
      await api.keepWarmSlots.mutate({ slots: [good, bad] });
      await untilSlot(w, good.slotId, 'ready');
      await untilSlot(w, bad.slotId, 'ready');
      await api.createKernel.mutate(orderFor(good, { bootstrap: { script: 'exit 0', timeoutMs: 20_000 } }));
      const started = await w.gateway.waitForEvent(good.slotId, 'kernel-started');
      expect(started.steps.map(({ step }) => step).at(-1)).toBe('bootstrap');
      await api.createKernel.mutate(orderFor(bad, { bootstrap: { script: 'exit 3', timeoutMs: 20_000 } }));
      expect(await w.gateway.waitForEvent(bad.slotId, 'kernel-start-failed')).toMatchObject({
        failedStep: 'bootstrap',
      });
      await api.destroyKernel.mutate({ kernelId: good.slotId, reason: 'user-requested', forced: true });
      await w.expectNoRemains(bad.slotId);
    });

    it('do not suit an order for something else, which is refused; the slot goes', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const others: Array<Partial<KernelSpec>> = [
        { slots: { ...amounts, cpu: '2' } },
        { shmem: 64 * 1024 ** 2 },
        { hostname: 'sub1', clusterRole: 'sub' },
        { cluster: { localRank: 0, replicas: { main: 1, sub: 0 }, hosts: [{ name: 'main1' }] } },
        { allowFractionalResourceFragmentation: false },
        { egress: { policy: 'none' } },
      ];
      for (const other of others) {
        const slot = slotSpec(image);
        await api.keepWarmSlots.mutate({ slots: [slot] });
        await untilSlot(w, slot.slotId, 'ready');
        expect(await codeOf(api.createKernel.mutate(orderFor(slot, other)))).toBe('state-conflict');
        await w.expectNoRemains(slot.slotId);
      }
      await waitFor(() => agent.status().warmSlots.length === 0 && Object.keys(agent.status().used).length === 0);
    });

    it('stay while nobody wishes them any more whose session has claimed them, until its order comes', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const [claimed, other] = [slotSpec(image), slotSpec(image)];
      await api.keepWarmSlots.mutate({ slots: [claimed, other] });
      await untilSlot(w, claimed.slotId, 'ready');
      await api.keepWarmSlots.mutate({ slots: [], claimed: [claimed.slotId] });
      expect(agent.status().warmSlots.map(({ slotId }) => slotId)).toEqual([claimed.slotId]);
      await api.createKernel.mutate(orderFor(claimed));
      const started = await w.gateway.waitForEvent(claimed.slotId, 'kernel-started');
      expect(started.steps.map(({ step }) => step)).toContain('hand-over');
    });

    it('give way to a kernel that needs what they hold', async () => {
      const w = await agentWorld({ ...world, slots: { cpu: '2', mem: String(1024 ** 3) } });
      const { agent, api } = await w.startAgent();
      const [one, two] = [slotSpec(image), slotSpec(image)];
      await api.keepWarmSlots.mutate({ slots: [one, two] });
      await untilSlot(w, one.slotId, 'ready');
      await untilSlot(w, two.slotId, 'ready');
      const order = kernelSpec({ image, slots: amounts });
      await api.createKernel.mutate(order);
      await w.gateway.waitForEvent(order.kernelId, 'kernel-started');
      expect(agent.status().warmSlots).toHaveLength(1);
      expect(agent.status().used).toMatchObject({ cpu: '2' });
      const tooLarge = kernelSpec({ image, slots: { ...amounts, cpu: '3' } });
      expect(await codeOf(api.createKernel.mutate(tooLarge))).toBe('insufficient-capacity');
    });

    it('that were given up before the order came do not keep the kernel from starting', async () => {
      const w = await agentWorld(world);
      const { api } = await w.startAgent();
      const slot = slotSpec(image);
      await api.keepWarmSlots.mutate({ slots: [slot] });
      await untilSlot(w, slot.slotId, 'ready');
      await api.keepWarmSlots.mutate({ slots: [] });
      await w.expectNoRemains(slot.slotId);
      await waitFor(async () => (await codeOf(api.createKernel.mutate(orderFor(slot)))) === 'no error');
      const started = await w.gateway.waitForEvent(slot.slotId, 'kernel-started');
      expect(started.steps.map(({ step }) => step)).toEqual(['reserve-resources', ...steps]);
    });

    it('go with a destroy that comes before their order', async () => {
      const w = await agentWorld(world);
      const { agent, api } = await w.startAgent();
      const slot = slotSpec(image);
      await api.keepWarmSlots.mutate({ slots: [slot] });
      await untilSlot(w, slot.slotId, 'ready');
      await api.destroyKernel.mutate({ kernelId: slot.slotId, reason: 'user-requested' });
      await w.gateway.waitForEvent(slot.slotId, 'kernel-terminated');
      await w.expectNoRemains(slot.slotId);
      expect(agent.status().warmSlots).toEqual([]);
    });

    it.each(steps)('leave nothing when the step %s fails, and say why', async (step) => {
      let fails = true;
      const after = (each: string): void => {
        if (fails && each === step) throw new Error('made to fail');
      };
      const w = await agentWorld({ ...world, faults: { after } });
      const { agent, api } = await w.startAgent();
      const slot = slotSpec(image);
      await api.keepWarmSlots.mutate({ slots: [slot] });
      await untilSlot(w, slot.slotId, 'failed');
      expect(w.gateway.warmSlots[0]?.error).toMatchObject({ code: 'kernel-start-failed' });
      await w.expectNoRemains(slot.slotId);
      fails = false;
      await api.keepWarmSlots.mutate({ slots: [slot] });
      expect(stateOf(w, slot.slotId)).toBe('failed');
      await api.keepWarmSlots.mutate({ slots: [] });
      await waitFor(() => Object.keys(agent.status().used).length === 0);
    });

    it.each(['claim-slot', 'hand-over'])(
      'whose step %s fails are removed, and the kernel starts without',
      async (step) => {
        let fails = true;
        const after = (each: string): void => {
          if (!fails || each !== step) return;
          fails = false;
          throw new Error('made to fail');
        };
        const w = await agentWorld({ ...world, faults: { after } });
        const { agent, api } = await w.startAgent();
        const slot = slotSpec(image);
        await api.keepWarmSlots.mutate({ slots: [slot] });
        await untilSlot(w, slot.slotId, 'ready');
        await api.createKernel.mutate(orderFor(slot));
        const end = await waitFor(() =>
          w.gateway
            .of(slot.slotId)
            .find(
              ({ type }) => type === 'kernel-started' || type === 'kernel-start-failed' || type === 'kernel-terminated',
            ),
        );
        expect(end.type).toBe('kernel-started');
        expect(agent.status()).toMatchObject({ used: amounts, kernels: [{ state: 'running' }] });
        expect(textOf(await runCode(api, slot.slotId, hello))).toBe('hello\n');
      },
    );
  });
}
