import { cpus } from 'node:os';
import { waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { type AgentWorld, agentWorld, codeOf, kernelSpec, runCode, startKernel, textOf } from './agent-world.ts';
import { gpu, mockGpus } from './mock-gpus.ts';

const mem = String(128 * 1024 ** 2);
const shell = { image: 'local/shell' };

async function worldWithGpus(settings: Record<string, string> = {}): Promise<AgentWorld> {
  return await agentWorld({ accelerators: await mockGpus(settings) });
}

async function devicesSeenIn(api: Parameters<typeof runCode>[0], kernelId: string): Promise<string> {
  return textOf(await runCode(api, kernelId, 'echo $CUDA_VISIBLE_DEVICES $GPU_COUNT; cat /home/config/resource.txt'));
}

describe('accelerators on the process backend', () => {
  it('are told to managers, and each is given to one kernel', async () => {
    const w = await worldWithGpus();
    const { agent, api } = await w.startAgent();
    expect(w.gateway.registrations[0]?.slots).toMatchObject({ 'cuda.device': '2' });
    const slots = { cpu: '1', mem, 'cuda.device': '1' };
    const [one, two] = [await startKernel(w, api, { ...shell, slots }), await startKernel(w, api, { ...shell, slots })];
    const seen = [await devicesSeenIn(api, one.kernelId), await devicesSeenIn(api, two.kernelId)];
    expect(seen.map((text) => text.split('\n')[0]).sort()).toEqual([`${gpu(1)} 1`, `${gpu(2)} 1`]);
    expect(seen[0]).toMatch(/^CUDA\.DEVICE_SHARES=\S+:1$/m);
    expect(seen[0]).toMatch(/^CUDA_GLOBAL_DEVICE_IDS=0:\S+$/m);
    expect(one.started).toMatchObject({
      steps: expect.arrayContaining([{ step: 'attach-devices', ms: expect.any(Number) }]),
    });
    expect(await codeOf(api.createKernel.mutate(kernelSpec({ ...shell, slots })))).toBe('insufficient-capacity');
    await api.destroyKernel.mutate({ kernelId: one.kernelId, reason: 'user-requested' });
    await waitFor(() => agent.status().used['cuda.device'] === '1');
    const third = await startKernel(w, api, { ...shell, slots });
    expect((await devicesSeenIn(api, third.kernelId)).split('\n')[0]).toBe(seen[0]?.split('\n')[0]);
  });

  it('are measured, for each kernel what it has and for the machine all', async () => {
    const w = await worldWithGpus({ 'mock.allocation-mode': 'fractional' });
    const { api } = await w.startAgent({ measureEveryMs: 50 });
    const { kernelId } = await startKernel(w, api, { ...shell, slots: { cpu: '1', mem, 'cuda.shares': '0.5' } });
    const { kernelId: without } = await startKernel(w, api, { ...shell, slots: { cpu: '1', mem } });
    const told = await waitFor(() => {
      const { measurements = [], machine = {} } = w.gateway.heartbeats.at(-1) ?? {};
      const of = (id: string) => measurements.find((each) => each.kernelId === id)?.metrics;
      const [own, none] = [of(kernelId), of(without)];
      return own?.cuda_util && none?.cpu_util && machine.cuda_util && { own, none, machine };
    });
    const gibibyte = 1024 ** 3;
    expect(told.own).toMatchObject({ cuda_util: { unit: 'percent', capacity: 100 }, cuda_mem: { capacity: gibibyte } });
    expect(told.machine).toMatchObject({ cuda_util: { capacity: 200 }, cuda_mem: { capacity: 4 * gibibyte } });
    expect(Object.keys(told.own).sort()).toEqual(
      expect.arrayContaining(['cuda_mem', 'cuda_power', 'cuda_temperature', 'cuda_util']),
    );
    expect(Object.keys(told.none).filter((name) => name.startsWith('cuda'))).toEqual([]);
  });

  it('stay with their kernels when the agent starts anew, even while their plugin fails', async () => {
    const w = await worldWithGpus();
    const first = await w.startAgent();
    const slots = { cpu: '1', mem, 'cuda.device': '1' };
    const kernel = await startKernel(w, first.api, { ...shell, slots });
    const held = first.agent.status().heldDevices;
    await first.agent.close();
    const blind = await w.startAgent({
      accelerators: { plugins: ['mock'], settings: { 'mock.devices-file': '/gone' } },
    });
    expect(blind.agent.status()).toMatchObject({ heldDevices: held, accelerators: [{ state: 'failed' }] });
    expect(await codeOf(blind.api.createKernel.mutate(kernelSpec({ ...shell, slots })))).toBe('insufficient-capacity');
    await blind.agent.close();
    const again = await w.startAgent();
    expect(again.agent.status().heldDevices).toEqual(held);
    const other = await startKernel(w, again.api, { ...shell, slots });
    const [own, others] = [
      await devicesSeenIn(again.api, kernel.kernelId),
      await devicesSeenIn(again.api, other.kernelId),
    ];
    expect([own, others].map((text) => text.split('\n')[0]).sort()).toEqual([`${gpu(1)} 1`, `${gpu(2)} 1`]);
  });

  it('are shared up to what each of them is', async () => {
    const w = await worldWithGpus({ 'mock.allocation-mode': 'fractional' });
    const { agent, api } = await w.startAgent();
    const slots = { cpu: '1', mem, 'cuda.shares': '0.6' };
    await startKernel(w, api, { ...shell, slots });
    await startKernel(w, api, { ...shell, slots });
    expect(Object.values(agent.status().heldDevices['cuda.shares'] ?? {})).toEqual(['0.6', '0.6']);
    const rest = { ...slots, 'cuda.shares': '0.8' };
    const refused = kernelSpec({ ...shell, slots: rest, allowFractionalResourceFragmentation: false });
    expect(await codeOf(api.createKernel.mutate(refused))).toBe('insufficient-capacity');
    await startKernel(w, api, { ...shell, slots: rest });
    expect(Object.values(agent.status().heldDevices['cuda.shares'] ?? {})).toEqual(['1', '1']);
  });

  it.runIf(cpus().length >= 2)('come with processors that a kernel keeps to', async () => {
    const w = await agentWorld({ slots: { cpu: '2', mem: String(1024 ** 3) } });
    const { agent, api } = await w.startAgent();
    const kernels = [
      await startKernel(w, api, { ...shell, slots: { cpu: '1', mem } }),
      await startKernel(w, api, { ...shell, slots: { cpu: '1', mem } }),
    ];
    const allowed = await Promise.all(
      kernels.map(
        async ({ kernelId }) =>
          textOf(await runCode(api, kernelId, 'grep Cpus_allowed_list /proc/self/status'))
            .trim()
            .split(/\s+/)[1],
      ),
    );
    expect(allowed.sort()).toEqual(Object.keys(agent.status().heldDevices.cpu ?? {}).sort());
  });
});
