import { AppError } from '@backend.ai/core';
import type { DeviceMeasurement } from '../accelerator-plugin.ts';

/** What `nvidia-smi` prints, read strictly: a line that is not as documented is an error and no device. */

export interface Gpu {
  readonly index: number;
  readonly uuid: string;
  readonly name: string;
  /** As in sysfs: `0000:3b:00.0`. */
  readonly busId: string;
  readonly memoryBytes: number | null;
  /** Whether it is cut into instances: then these are the devices, and the whole is none. */
  readonly migEnabled: boolean;
  readonly driverVersion: string;
}

export interface MigInstance {
  readonly gpuIndex: number;
  /** `3g.20gb` */
  readonly profile: string;
  readonly uuid: string;
}

const gpuFields = ['index', 'uuid', 'name', 'pci.bus_id', 'memory.total', 'mig.mode.current', 'driver_version'];
const measureFields = ['uuid', 'utilization.gpu', 'memory.used', 'memory.total', 'power.draw', 'temperature.gpu'];
const processFields = ['gpu_uuid', 'pid', 'used_gpu_memory'];
const mebibyte = 1024 * 1024;

const csv = '--format=csv,noheader,nounits';
export const gpuQuery: readonly string[] = [`--query-gpu=${gpuFields.join(',')}`, csv];
export const measureQuery: readonly string[] = [`--query-gpu=${measureFields.join(',')}`, csv];
export const processQuery: readonly string[] = [`--query-compute-apps=${processFields.join(',')}`, csv];
export const listQuery: readonly string[] = ['-L'];

/** The answer to `gpuQuery`. @throws AppError `internal` */
export function parseGpus(text: string): Gpu[] {
  return rowsOf(text, gpuFields.length).map((row) => {
    const [index = '', uuid = '', name = '', bus = '', memory = '', mig = '', driverVersion = ''] = row;
    const [, domain, place] = /^([0-9A-F]{4,8}):([0-9A-F]{2}:[0-9A-F]{2}\.[0-9A-F])$/i.exec(bus) ?? [];
    if (!/^\d+$/.test(index) || !isGpuId(uuid) || name === '' || domain === undefined || place === undefined) {
      throw unreadable(row.join(', '));
    }
    const memoryMiB = numberIn(memory);
    return {
      index: Number(index),
      uuid,
      name,
      busId: `${domain.slice(-4)}:${place}`.toLowerCase(),
      memoryBytes: memoryMiB === null ? null : Math.round(memoryMiB * mebibyte),
      migEnabled: mig === 'Enabled',
      driverVersion,
    };
  });
}

/** The instances in the answer to `listQuery`. @throws AppError `internal` */
export function parseMigInstances(text: string): MigInstance[] {
  const instances: MigInstance[] = [];
  let gpuIndex: number | undefined;
  for (const line of text.split('\n')) {
    const gpu = /^GPU (\d+): .*\(UUID: GPU-[0-9a-f-]+\)\s*$/.exec(line);
    if (gpu) gpuIndex = Number(gpu[1]);
    if (!line.trim().startsWith('MIG')) continue;
    const [, profile, uuid] = /^\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[A-Za-z0-9/-]+)\)\s*$/.exec(line) ?? [];
    if (gpuIndex === undefined || profile === undefined || uuid === undefined) throw unreadable(line);
    instances.push({ gpuIndex, profile, uuid });
  }
  return instances;
}

/** The answer to `measureQuery`. @throws AppError `internal` */
export function parseMeasurements(text: string): DeviceMeasurement[] {
  return rowsOf(text, measureFields.length).map((row) => {
    const [deviceId = '', utilization = '', used = '', memory = '', power = '', temperature = ''] = row;
    if (!isGpuId(deviceId)) throw unreadable(row.join(', '));
    return {
      deviceId,
      utilizationPercent: numberIn(utilization),
      memoryUsedBytes: bytesIn(used),
      memoryTotalBytes: bytesIn(memory),
      powerWatts: numberIn(power),
      temperatureCelsius: numberIn(temperature),
    };
  });
}

/** The answer to `processQuery`: memory in bytes by GPU, of these processes. @throws AppError `internal` */
export function parseMemoryOf(text: string, pids: ReadonlySet<number>): Map<string, number> {
  const used = new Map<string, number>();
  for (const row of rowsOf(text, processFields.length)) {
    const [uuid = '', pid = '', memory = ''] = row;
    if (!isGpuId(uuid) || !/^\d+$/.test(pid)) throw unreadable(row.join(', '));
    if (pids.has(Number(pid))) used.set(uuid, (used.get(uuid) ?? 0) + (bytesIn(memory) ?? 0));
  }
  return used;
}

function rowsOf(text: string, length: number): string[][] {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  return lines.map((line) => {
    const row = line.split(',').map((field) => field.trim());
    if (row.length !== length) throw unreadable(line);
    return row;
  });
}

/** `[N/A]`, `[Not Supported]` and the like stand for what a device does not tell. */
function numberIn(text: string): number | null {
  if (/^\[.*\]$|^N\/A$/.test(text)) return null;
  if (!/^\d+(\.\d+)?$/.test(text)) throw unreadable(text);
  return Number(text);
}

function bytesIn(text: string): number | null {
  const mebibytes = numberIn(text);
  return mebibytes === null ? null : Math.round(mebibytes * mebibyte);
}

function isGpuId(text: string): boolean {
  return /^(GPU|MIG)-[A-Za-z0-9/-]+$/.test(text);
}

function unreadable(line: string): AppError {
  return new AppError('internal', `nvidia-smi printed what cannot be understood: ${line.slice(0, 120)}`);
}
