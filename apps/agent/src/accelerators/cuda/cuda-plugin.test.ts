import { describe, expect, it } from 'vitest';
import { contextWith, tempFolder, writeProgram } from '../accelerators.test.kit.ts';
import { createCudaPlugin } from './cuda-plugin.ts';
import { parseGpus, parseMeasurements, parseMigInstances } from './nvidia-smi.ts';

/*
 * No GPU is needed: a program in the place of nvidia-smi prints what NVIDIA documents, in the documented format. Whether a
 * driver of a given version really prints that, only a machine that has one can show.
 */
const [first, second, third] = [1, 2, 3].map((digit) => `GPU-0000000${digit}-aaaa-bbbb-cccc-000000000000`) as [
  string,
  string,
  string,
];
const instance = (digit: number) => `MIG-${digit}1111111-2222-5333-8444-555555555555`;
const gpus = [
  `0, ${first}, NVIDIA A100-SXM4-40GB, 00000000:3B:00.0, 40960, Disabled, 535.104.05`,
  `1, ${second}, NVIDIA A100-SXM4-40GB, 00000000:AF:00.0, 40960, [N/A], 535.104.05`,
].join('\n');
const cutGpu = `2, ${third}, NVIDIA A100-SXM4-40GB, 00000000:D8:00.0, 40960, Enabled, 535.104.05`;
const list = `GPU 0: NVIDIA A100-SXM4-40GB (UUID: ${first})
GPU 2: NVIDIA A100-SXM4-40GB (UUID: ${third})
  MIG 3g.20gb     Device  0: (UUID: ${instance(1)})
  MIG 1g.5gb      Device  1: (UUID: ${instance(2)})
  MIG 1g.5gb      Device  2: (UUID: ${instance(3)})
`;

const files: Record<string, string> = {
  '/sys/bus/pci/devices/0000:3b:00.0/numa_node': '0\n',
  '/sys/bus/pci/devices/0000:af:00.0/numa_node': '-1\n',
  '/sys/bus/pci/devices/0000:d8:00.0/numa_node': '1\n',
  '/proc/driver/nvidia/gpus/0000:af:00.0/information': 'Model: \t\t NVIDIA A100\nDevice Minor: \t 5\n',
};
const signal = new AbortController().signal;
const onProcesses = { kernelId: 'k', backend: 'process' };

/** @param answers By the first argument up to `=`. */
function pluginWith(answers: Record<string, string>, settings: Record<string, unknown> = {}) {
  const folder = tempFolder();
  const cases = Object.entries(answers).map(([argument, text]) => `${argument}*) cat <<'END'\n${text}\nEND\n;;`);
  writeProgram(
    folder,
    'nvidia-smi',
    `case $1 in\n${cases.join('\n')}\n*) echo "Invalid option: $1" >&2; exit 1;;\nesac`,
  );
  return createCudaPlugin(settings, contextWith(folder), (path) => files[path] ?? null);
}

describe('CUDA devices', () => {
  it('are what nvidia-smi lists, with the nodes they are near to', async () => {
    const { devices, slots, exclusive, attributes } = await pluginWith({ '--query-gpu': gpus }).inspect(signal);
    expect(devices).toEqual(
      [
        { id: first, numaNode: 0, location: '0000:3b:00.0' },
        { id: second, numaNode: null, location: '0000:af:00.0' },
      ].map((each) => ({
        ...each,
        model: 'NVIDIA A100-SXM4-40GB',
        memoryBytes: 40 * 1024 ** 3,
        processors: null,
        parent: null,
      })),
    );
    expect(slots).toMatchObject([
      { name: 'cuda.device', type: 'count', division: { kind: 'discrete' }, capacity: { [first]: '1', [second]: '1' } },
    ]);
    expect(exclusive).toEqual(['cuda.device', 'cuda.shares', 'cuda.device:*-mig']);
    expect(attributes).toEqual({ 'NVIDIA driver': '535.104.05' });
  });

  it('can be shared, or kept back, when an operator says so', async () => {
    const settings = { allocationMode: 'fractional', quantum: 0.25, deviceMask: [first] };
    expect((await pluginWith({ '--query-gpu': gpus }, settings).inspect(signal)).slots).toMatchObject([
      { name: 'cuda.shares', division: { kind: 'fraction', quantum: '0.25' }, capacity: { [second]: '1' } },
    ]);
  });

  it('that are cut into instances are these, each in the slot of its profile', async () => {
    const plugin = pluginWith({ '--query-gpu': `${gpus}\n${cutGpu}`, '-L': list });
    const { devices, slots } = await plugin.inspect(signal);
    expect(
      devices.slice(2).map(({ id, parent, numaNode, memoryBytes }) => [id, parent, numaNode, memoryBytes]),
    ).toEqual([
      [instance(1), third, 1, 20 * 1024 ** 3],
      [instance(2), third, 1, 5 * 1024 ** 3],
      [instance(3), third, 1, 5 * 1024 ** 3],
    ]);
    expect(slots.map(({ name, type, capacity }) => [name, type, Object.keys(capacity)])).toEqual([
      ['cuda.device', 'count', [first, second]],
      ['cuda.device:3g.20gb-mig', 'unique', [instance(1)]],
      ['cuda.device:1g.5gb-mig', 'unique', [instance(2), instance(3)]],
    ]);
    expect(
      (await plugin.contribute({ 'cuda.device:1g.5gb-mig': { [instance(2)]: '1' } }, onProcesses, signal)).environ,
    ).toMatchObject({
      CUDA_VISIBLE_DEVICES: instance(2),
    });
  });

  it('come to a kernel of processes as variables and device files, to a container as a request to its engine', async () => {
    const plugin = pluginWith({ '--query-gpu': gpus });
    await plugin.inspect(signal);
    const shares = { 'cuda.device': { [first]: '1', [second]: '1' } };
    expect(await plugin.contribute(shares, onProcesses, signal)).toEqual({
      environ: {
        CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
        CUDA_VISIBLE_DEVICES: `${first},${second}`,
        NVIDIA_VISIBLE_DEVICES: `${first},${second}`,
      },
      files: ['/dev/nvidiactl', '/dev/nvidia-uvm', '/dev/nvidia-uvm-tools', '/dev/nvidia0', '/dev/nvidia5'],
      resourceLines: { CUDA_GLOBAL_DEVICE_IDS: `0:${first},1:${second}`, CUDA_RESOURCE_VIRTUALIZED: '0' },
    });
    expect(await plugin.contribute(shares, { ...onProcesses, backend: 'docker' }, signal)).toEqual({
      deviceRequests: [{ driver: 'nvidia', deviceIds: [first, second], capabilities: [['gpu', 'utility', 'compute']] }],
      resourceLines: { CUDA_GLOBAL_DEVICE_IDS: `0:${first},1:${second}`, CUDA_RESOURCE_VIRTUALIZED: '0' },
    });
  });

  it('are measured, and memory is counted by the processes of a kernel', async () => {
    const plugin = pluginWith({
      '--query-gpu': `${first}, 37, 1024, 40960, 75.31, 41\n${second}, [N/A], 0, 40960, [Not Supported], 35`,
      '--query-compute-apps': `${first}, 100, 600\n${first}, 200, 424\n${first}, 101, [N/A]`,
    });
    const [one, two] = (await plugin.measureDevices?.(signal)) ?? [];
    expect(one).toEqual({
      deviceId: first,
      utilizationPercent: 37,
      memoryUsedBytes: 1024 ** 3,
      memoryTotalBytes: 40 * 1024 ** 3,
      powerWatts: 75.31,
      temperatureCelsius: 41,
    });
    expect(two).toMatchObject({ utilizationPercent: null, powerWatts: null });
    const own = await plugin.measureKernel?.({ shares: { 'cuda.device': { [first]: '1' } }, pids: [100, 101] }, signal);
    expect(own).toMatchObject([{ deviceId: first, utilizationPercent: 37, memoryUsedBytes: 600 * 1024 ** 2 }]);
    const shared = await plugin.measureKernel?.({ shares: { 'cuda.shares': { [first]: '0.5' } }, pids: [200] }, signal);
    expect(shared).toMatchObject([{ deviceId: first, utilizationPercent: null, memoryUsedBytes: 424 * 1024 ** 2 }]);
  });

  it('are an error where the tool fails, and its words are told', async () => {
    const folder = tempFolder();
    writeProgram(
      folder,
      'nvidia-smi',
      'echo "NVIDIA-SMI has failed because it couldn\'t communicate with the NVIDIA driver."; exit 9',
    );
    await expect(createCudaPlugin({}, contextWith(folder)).inspect(signal)).rejects.toThrow(
      "couldn't communicate with the NVIDIA driver",
    );
    await expect(createCudaPlugin({}, contextWith(tempFolder())).inspect(signal)).rejects.toThrow(
      'is not on this machine',
    );
  });

  it.each([
    `0, ${first}, A100, 00000000:3B:00.0, 40960, Disabled`,
    `0, not-an-id, A100, 00000000:3B:00.0, 40960, Disabled, 1`,
    `0, ${first}, A100, somewhere, 40960, Disabled, 1`,
    `0, ${first}, A100, 00000000:3B:00.0, forty, Disabled, 1`,
    'Field "mig.mode.current" is not a valid field to query.',
  ])('are not guessed from a line that is not as documented: %s', (line) => {
    expect(() => parseGpus(line)).toThrow('cannot be understood');
  });

  it('are none in an empty answer', () => {
    expect([parseGpus('\n'), parseMigInstances(''), parseMeasurements('')]).toEqual([[], [], []]);
    expect(() => parseMigInstances('  MIG 1g.5gb Device 0: (UUID: MIG-1)')).toThrow('cannot be understood');
  });
});
