import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { contextWith, tempFolder } from '../accelerators.test.kit.ts';
import { createMockPlugin } from './mock-plugin.ts';

const uuid = (digit: number) => `c59395cd-ac91-4cd3-a1b0-3d2568aa2d0${digit}`;
const whole = (digit: number, more = '') =>
  `{ mother_uuid = "${uuid(digit)}", model_name = "CUDA GPU", numa_node = ${digit % 2}, subproc_count = 108, memory_size = "40g"${more} }`;
const part = (digit: number, profile: string) =>
  `{ mother_uuid = "${uuid(digit)}", model_name = "MIG-${profile}", numa_node = 0, subproc_count = 14, memory_size = "5g", is_mig_device = true }`;

function pluginOf(devices: readonly string[], settings: Record<string, unknown> = {}, rest = '') {
  const devicesFile = join(tempFolder(), 'devices.toml');
  writeFileSync(
    devicesFile,
    `slot_name = "cuda"\ndevice_plugin_name = "CUDADevice"\ndevices = [ ${devices.join(', ')} ]\n${rest}`,
  );
  return createMockPlugin({ devicesFile, ...settings }, contextWith(''));
}

const signal = new AbortController().signal;
const target = { kernelId: 'k', backend: 'process' };

describe('simulated accelerators', () => {
  it('are whole devices and parts of devices, with the nodes and formats that the file names', async () => {
    const format = `[formats.device]\nhuman_readable_name = "GPU"\ndescription = "Simulated"\ndisplay_unit = "GPU"\ndisplay_icon = "gpu2"\nnumber_format = { binary = false, round_length = 0 }\n[attributes]\nnvidia_driver = "450.00.00"\n`;
    const { devices, slots, attributes } = await pluginOf(
      [whole(1), whole(2), part(3, '5g'), part(3, '5g')],
      {},
      format,
    ).inspect(signal);
    expect(devices.map(({ id, numaNode, parent }) => [id, numaNode, parent])).toEqual([
      [uuid(1), 1, null],
      [uuid(2), 0, null],
      [`MIG-${uuid(3)}/2/0`, 0, uuid(3)],
      [`MIG-${uuid(3)}/3/0`, 0, uuid(3)],
    ]);
    expect(slots.map(({ name, type, icon, capacity }) => [name, type, icon, Object.values(capacity)])).toEqual([
      ['cuda.device', 'count', 'gpu2', ['1', '1']],
      ['cuda.device:5g-mig', 'unique', 'gpu1', ['1', '1']],
    ]);
    expect(attributes).toMatchObject({ nvidia_driver: '450.00.00' });
  });

  it('are as many shares as they have units of memory or processors, whichever is less', async () => {
    const capacity = async (settings: Record<string, unknown>) => {
      const { slots } = await pluginOf([whole(1)], { allocationMode: 'fractional', ...settings }).inspect(signal);
      return slots.map(({ name, division, capacity: shares }) => [name, division, shares[uuid(1)]]);
    };
    const quantum = { kind: 'fraction', quantum: '0.1' };
    expect(await capacity({})).toEqual([['cuda.shares', quantum, '13.5']]);
    expect(await capacity({ unitMem: '40g', unitProc: 108 })).toEqual([['cuda.shares', quantum, '1']]);
    expect(await capacity({ unitMem: '4g', quantum: 0.25 })).toEqual([
      ['cuda.shares', { kind: 'fraction', quantum: '0.25' }, '10'],
    ]);
  });

  it('tell a kernel which they are, and what of them is its own', async () => {
    const shared = pluginOf([whole(1), whole(2)], { allocationMode: 'fractional' });
    expect(await shared.contribute({ 'cuda.shares': { [uuid(2)]: '0.5' } }, target, signal)).toEqual({
      environ: {
        BACKENDAI_MOCK_CUDA_DEVICES: uuid(2),
        BACKENDAI_MOCK_CUDA_DEVICE_COUNT: '1',
        CUDA_VISIBLE_DEVICES: uuid(2),
        TF_MIN_GPU_MULTIPROCESSOR_COUNT: '4',
      },
      resourceLines: {
        CUDA_GLOBAL_DEVICE_IDS: `0:${uuid(2)}`,
        CUDA_RESOURCE_VIRTUALIZED: '1',
        CUDA_MEMORY_LIMITS: `${uuid(2)}:1073741824`,
        CUDA_PROCESSOR_LIMITS: `${uuid(2)}:4`,
        CUDA_RESERVED_MEMORY: '67108864',
      },
    });
    const { resourceLines } = await pluginOf([whole(1)]).contribute(
      { 'cuda.device': { [uuid(1)]: '1' } },
      target,
      signal,
    );
    expect(resourceLines).toEqual({ CUDA_GLOBAL_DEVICE_IDS: `0:${uuid(1)}`, CUDA_RESOURCE_VIRTUALIZED: '0' });
  });

  it('that are masked do not exist', async () => {
    const { devices, slots } = await pluginOf([whole(1), whole(2)], { deviceMask: uuid(1) }).inspect(signal);
    expect([devices.map(({ id }) => id), slots.map(({ capacity }) => Object.keys(capacity))]).toEqual([
      [uuid(2)],
      [[uuid(2)]],
    ]);
  });

  it('measure themselves within what they have, and a kernel within its shares', async () => {
    const plugin = pluginOf([whole(1), whole(2)], { allocationMode: 'fractional' });
    const all = (await plugin.measureDevices?.(signal)) ?? [];
    expect(all.map(({ deviceId, memoryTotalBytes }) => [deviceId, memoryTotalBytes])).toEqual(
      [uuid(1), uuid(2)].map((id) => [id, 40 * 1024 ** 3]),
    );
    const shares = { 'cuda.shares': { [uuid(2)]: '1.35' } };
    const [own, ...others] = (await plugin.measureKernel?.({ shares, pids: [] }, signal)) ?? [];
    expect([own?.deviceId, own?.memoryTotalBytes, others]).toEqual([uuid(2), 4 * 1024 ** 3, []]);
    expect(own?.memoryUsedBytes).toBeLessThanOrEqual(4 * 1024 ** 3);
  });

  it.each([
    ['a unit that is too small', { unitMem: '256m' }, 'unitMem: must be at least 512m'],
    ['a mode that does not exist', { allocationMode: 'sometimes' }, 'allocationMode'],
    ['a quantum of nothing', { quantum: 0 }, 'quantum'],
    ['settings that do not exist', { colour: 'red' }, 'colour'],
    ['a file that is not there', { devicesFile: '/nowhere' }, '/nowhere cannot be read'],
  ])('are refused with %s', (_, settings, problem) => {
    expect(() => pluginOf([whole(1)], settings)).toThrow(
      expect.objectContaining({ code: 'config-invalid', message: expect.stringContaining(problem) }),
    );
  });

  it('are refused with devices that say too little', () => {
    expect(() => pluginOf(['{ mother_uuid = "a" }'])).toThrow('devices.0.model_name');
  });
});
