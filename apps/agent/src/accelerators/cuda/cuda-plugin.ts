import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '@backend.ai/core';
import { z } from 'zod';
import { runFoundProgram } from '../../files/programs.ts';
import type { ReadText } from '../../resources/numa.ts';
import {
  type AcceleratorDevice,
  type AcceleratorInventory,
  type AcceleratorPlugin,
  type AcceleratorSlot,
  type DeviceContribution,
  type DeviceMeasurement,
  type DeviceShares,
  devicesIn,
  type KernelTarget,
  type MeasuredKernel,
  type PluginContext,
  type PluginSettings,
} from '../accelerator-plugin.ts';
import { allocationModeSetting, deviceMaskSetting, quantumSetting, readSettings } from '../plugin-settings.ts';
import {
  type Gpu,
  gpuQuery,
  listQuery,
  type MigInstance,
  measureQuery,
  parseGpus,
  parseMeasurements,
  parseMemoryOf,
  parseMigInstances,
  processQuery,
} from './nvidia-smi.ts';

export const nvidiaProgram = 'nvidia-smi';

const settingsSchema = z.strictObject({
  /** `fractional`: a device may be shared by several kernels. Nothing keeps each to its part of the memory. */
  allocationMode: allocationModeSetting.default('discrete'),
  quantum: quantumSetting.default('0.1'),
  deviceMask: deviceMaskSetting.default(new Set<string>()),
});

/** Device files that every program needs, whichever GPU it uses. */
const controlFiles = ['/dev/nvidiactl', '/dev/nvidia-uvm', '/dev/nvidia-uvm-tools'];

/** @param read For tests: reads files of /sys and /proc. */
export function createCudaPlugin(
  settings: PluginSettings,
  context: PluginContext,
  read: ReadText = readFile,
): AcceleratorPlugin {
  return new CudaPlugin(readSettings('cuda', settingsSchema, settings), context, read);
}

/** GPUs of NVIDIA, as `nvidia-smi` knows them. A GPU that is cut by MIG is its instances. */
class CudaPlugin implements AcceleratorPlugin {
  readonly key = 'cuda';
  readonly version = '1';
  readonly requestsOfEngine = true;
  readonly #settings: z.output<typeof settingsSchema>;
  readonly #context: PluginContext;
  readonly #read: ReadText;
  #gpus: readonly Gpu[] = [];
  #instances: readonly MigInstance[] = [];

  constructor(settings: z.output<typeof settingsSchema>, context: PluginContext, read: ReadText) {
    this.#settings = settings;
    this.#context = context;
    this.#read = read;
  }

  async inspect(signal: AbortSignal): Promise<AcceleratorInventory> {
    const gpus = parseGpus(await this.#ask(gpuQuery, signal));
    const cut = gpus.some(({ migEnabled }) => migEnabled);
    this.#instances = cut ? parseMigInstances(await this.#ask(listQuery, signal)) : [];
    this.#gpus = gpus;
    const { deviceMask } = this.#settings;
    const devices = [
      ...gpus.filter(({ migEnabled }) => !migEnabled).map((gpu) => this.#wholeDevice(gpu)),
      ...this.#instances.map((instance) => this.#instanceDevice(instance)),
    ].filter(({ id }) => !deviceMask.has(id));
    return {
      devices,
      slots: this.#slots(devices),
      exclusive: ['cuda.device', 'cuda.shares', 'cuda.device:*-mig'],
      attributes: gpus[0] ? { 'NVIDIA driver': gpus[0].driverVersion } : {},
    };
  }

  async contribute(shares: DeviceShares, { backend }: KernelTarget): Promise<Partial<DeviceContribution>> {
    const ids = devicesIn(shares);
    const virtual = Object.keys(shares).includes('cuda.shares');
    const resourceLines = {
      CUDA_GLOBAL_DEVICE_IDS: ids.map((id, index) => `${index}:${id}`).join(','),
      CUDA_RESOURCE_VIRTUALIZED: virtual ? '1' : '0',
    };
    // The engine shows the devices and their libraries; the rest of them does not exist in there.
    if (backend === 'docker') {
      const capabilities = [['gpu', 'utility', 'compute']];
      return { resourceLines, deviceRequests: [{ driver: 'nvidia', deviceIds: ids, capabilities }] };
    }
    const visible = ids.join(',');
    return {
      resourceLines,
      environ: { CUDA_DEVICE_ORDER: 'PCI_BUS_ID', CUDA_VISIBLE_DEVICES: visible, NVIDIA_VISIBLE_DEVICES: visible },
      files: [...new Set([...controlFiles, ...ids.flatMap((id) => this.#filesOf(id))])],
    };
  }

  async measureDevices(signal: AbortSignal): Promise<readonly DeviceMeasurement[]> {
    return parseMeasurements(await this.#ask(measureQuery, signal));
  }

  /** Utilisation is counted by device: of one that is shared, nobody knows whose it is. */
  async measureKernel({ shares, pids }: MeasuredKernel, signal: AbortSignal): Promise<readonly DeviceMeasurement[]> {
    const ids = new Set(devicesIn(shares));
    const all = await this.measureDevices(signal);
    const used = parseMemoryOf(await this.#ask(processQuery, signal), new Set(pids));
    const isWhole = (id: string): boolean => shares['cuda.device']?.[id] !== undefined;
    return all
      .filter(({ deviceId }) => ids.has(deviceId))
      .map((each) => ({
        ...each,
        utilizationPercent: isWhole(each.deviceId) ? each.utilizationPercent : null,
        memoryUsedBytes: used.get(each.deviceId) ?? 0,
      }));
  }

  #wholeDevice({ uuid, name, busId, memoryBytes }: Gpu): AcceleratorDevice {
    const numaNode = this.#numaNodeOf(busId);
    return { id: uuid, model: name, numaNode, memoryBytes, processors: null, location: busId, parent: null };
  }

  #instanceDevice({ uuid, profile, gpuIndex }: MigInstance): AcceleratorDevice {
    const gpu = this.#gpus.find(({ index }) => index === gpuIndex);
    if (!gpu) throw new AppError('internal', `nvidia-smi lists an instance of GPU ${gpuIndex}, but no such GPU.`);
    const gigabytes = /(\d+)gb/.exec(profile)?.[1];
    return {
      ...this.#wholeDevice(gpu),
      id: uuid,
      model: `${gpu.name} MIG ${profile}`,
      memoryBytes: gigabytes === undefined ? null : Number(gigabytes) * 1024 ** 3,
      parent: gpu.uuid,
    };
  }

  #slots(devices: readonly AcceleratorDevice[]): AcceleratorSlot[] {
    const { allocationMode, quantum } = this.#settings;
    const whole = devices.filter(({ parent }) => parent === null);
    const shown = { unit: 'GPU', icon: 'gpu1' };
    const slots: AcceleratorSlot[] = [];
    if (whole.length > 0) {
      const fractional = allocationMode === 'fractional';
      slots.push({
        name: fractional ? 'cuda.shares' : 'cuda.device',
        type: 'count',
        division: fractional ? { kind: 'fraction', quantum } : { kind: 'discrete' },
        capacity: Object.fromEntries(whole.map(({ id }) => [id, '1'])),
        title: fractional ? 'Fractional GPU' : 'GPU',
        description: fractional ? 'Shares of CUDA-capable GPUs' : 'CUDA-capable GPUs',
        numberFormat: { binary: false, roundLength: fractional ? 2 : 0 },
        ...shown,
      });
    }
    for (const [profile, ids] of this.#byProfile(devices)) {
      slots.push({
        name: `cuda.device:${profile}-mig`,
        type: 'unique',
        division: { kind: 'discrete' },
        capacity: Object.fromEntries(ids.map((id) => [id, '1'])),
        title: `GPU instance ${profile}`,
        description: `A part of a GPU: MIG profile ${profile}`,
        numberFormat: { binary: false, roundLength: 0 },
        ...shown,
      });
    }
    return slots;
  }

  #byProfile(devices: readonly AcceleratorDevice[]): Map<string, string[]> {
    const profiles = new Map<string, string[]>();
    for (const { uuid, profile } of this.#instances) {
      if (!devices.some(({ id }) => id === uuid)) continue;
      // `1g.5gb+me` offers more than `1g.5gb`; a slot's name has no plus.
      const name = profile.replaceAll('+', '-');
      profiles.set(name, [...(profiles.get(name) ?? []), uuid]);
    }
    return profiles;
  }

  /** Of an instance: the GPU's and those by which the driver opens it, which it finds by the instance's id. */
  #filesOf(id: string): string[] {
    const instance = this.#instances.find(({ uuid }) => uuid === id);
    const gpu = this.#gpus.find(({ uuid, index }) => uuid === id || index === instance?.gpuIndex);
    if (!gpu) return [];
    const information = this.#read(join('/proc/driver/nvidia/gpus', gpu.busId, 'information')) ?? '';
    const minor = /^Device Minor:\s*(\d+)$/m.exec(information)?.[1] ?? String(gpu.index);
    return [`/dev/nvidia${minor}`];
  }

  #numaNodeOf(busId: string): number | null {
    const text = this.#read(join('/sys/bus/pci/devices', busId, 'numa_node'))?.trim() ?? '';
    return /^\d+$/.test(text) ? Number(text) : null;
  }

  #ask(query: readonly string[], signal: AbortSignal): Promise<string> {
    return runFoundProgram(nvidiaProgram, this.#context.path, query, signal);
  }
}

function readFile(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
