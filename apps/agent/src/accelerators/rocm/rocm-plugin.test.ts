import { describe, expect, it } from 'vitest';
import { contextWith, tempFolder, writeProgram } from '../accelerators.test.kit.ts';
import { createRocmPlugin, type RocmMachine } from './rocm-plugin.ts';
import { parseCards } from './rocm-smi.ts';

/* As with CUDA: a program in the place of rocm-smi, and a machine in the place of one that has such cards. */
const cards = {
  card10: {
    'Unique ID': 'N/A',
    'Card series': 'AMD Instinct MI250',
    'PCI Bus': '0000:C5:00.0',
    'VRAM Total Memory (B)': '68702699520',
  },
  card0: {
    'Unique ID': '0x5CB4D2A5A3F7B2C1',
    'Card Series': 'AMD Instinct MI250',
    'PCI Bus': '0000:C1:00.0',
    'VRAM Total Memory (B)': '68702699520',
  },
  system: { 'Driver version': '6.3.6' },
};
const measured = {
  card0: {
    'Unique ID': '0x5cb4d2a5a3f7b2c1',
    'PCI Bus': '0000:C1:00.0',
    'GPU use (%)': '12',
    'VRAM Total Memory (B)': '68702699520',
    'VRAM Total Used Memory (B)': '10960896',
    'Average Graphics Package Power (W)': '91.0',
    'Temperature (Sensor edge) (C)': '38.0',
  },
  card10: { 'Unique ID': 'N/A', 'PCI Bus': '0000:C5:00.0', 'GPU use (%)': 'N/A' },
};
const ids = ['0x5cb4d2a5a3f7b2c1', '0000:c5:00.0'] as const;
const machine: RocmMachine = {
  readText: (path) => (path === '/sys/bus/pci/devices/0000:c5:00.0/numa_node' ? '1\n' : null),
  list: (folder) => (folder === '/sys/bus/pci/devices/0000:c5:00.0/drm' ? ['card10', 'controlD74', 'renderD138'] : []),
  groupOf: (file) => ({ '/dev/kfd': 109, '/dev/dri/renderD138': 44 })[file] ?? null,
};
const signal = new AbortController().signal;

function pluginWith(answer: unknown, settings: Record<string, unknown> = {}) {
  const folder = tempFolder();
  const text =
    typeof answer === 'string'
      ? answer
      : `WARNING: AMD GPU device(s) is/are in a low-power state\n${JSON.stringify(answer)}`;
  writeProgram(folder, 'rocm-smi', `cat <<'END'\n${text}\nEND`);
  return createRocmPlugin(settings, contextWith(folder), machine);
}

describe('ROCm devices', () => {
  it('are the cards that rocm-smi lists, in the order of their numbers', async () => {
    const { devices, slots } = await pluginWith(cards).inspect(signal);
    expect(devices.map(({ id, numaNode, memoryBytes, model }) => [id, numaNode, memoryBytes, model])).toEqual(
      [
        [ids[0], null],
        [ids[1], 1],
      ].map(([id, node]) => [id, node, 68_702_699_520, 'AMD Instinct MI250']),
    );
    expect(slots).toMatchObject([{ name: 'rocm.device', type: 'count', capacity: { [ids[0]]: '1', [ids[1]]: '1' } }]);
    expect((await pluginWith(cards, { deviceMask: ids[0] }).inspect(signal)).devices.map(({ id }) => id)).toEqual([
      ids[1],
    ]);
  });

  it('come to a kernel as device files and the groups that may open them', async () => {
    const plugin = pluginWith(cards);
    await plugin.inspect(signal);
    expect(
      await plugin.contribute({ 'rocm.device': { [ids[1]]: '1' } }, { kernelId: 'k', backend: 'docker' }, signal),
    ).toEqual({
      files: ['/dev/kfd', '/dev/dri/renderD138'],
      groups: [109, 44],
      environ: { ROCR_VISIBLE_DEVICES: '0' },
      resourceLines: { ROCM_GLOBAL_DEVICE_IDS: `0:${ids[1]}` },
    });
  });

  it('are measured as far as they tell', async () => {
    const plugin = pluginWith(measured);
    const unknown = {
      utilizationPercent: null,
      memoryUsedBytes: null,
      memoryTotalBytes: null,
      powerWatts: null,
      temperatureCelsius: null,
    };
    const first = {
      deviceId: ids[0],
      utilizationPercent: 12,
      memoryUsedBytes: 10_960_896,
      memoryTotalBytes: 68_702_699_520,
      powerWatts: 91,
      temperatureCelsius: 38,
    };
    expect(await plugin.measureDevices?.(signal)).toEqual([first, { deviceId: ids[1], ...unknown }]);
    expect(await plugin.measureKernel?.({ shares: { 'rocm.device': { [ids[0]]: '1' } }, pids: [] }, signal)).toEqual([
      first,
    ]);
  });

  it('are not guessed from what is not as documented', async () => {
    await expect(pluginWith('ERROR: no driver').inspect(signal)).rejects.toThrow('no JSON');
    expect(() => parseCards('[]')).toThrow('no cards');
    expect(() => parseCards('{"card0": 5}')).toThrow('no cards');
    expect(() => parseCards('{"card0": {"Unique ID": "0x1"}}')).toThrow('card0 without a PCI bus');
  });
});
