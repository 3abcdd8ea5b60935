import type { Clock } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { z } from 'zod';

/**
 * What the agent wants from whoever knows a kind of accelerator. A plugin looks at hardware and answers with data; what
 * it says is checked, and a plugin that fails or takes for ever costs its own slots and nothing else.
 *
 * A plugin of one's own is a module with a function `createAccelerator`, named in the configuration by its path.
 */
export interface AcceleratorPlugin {
  /** The first part of its slots: `cuda` for `cuda.device`. */
  readonly key: string;
  readonly version: string;
  /** Containers get its devices by requests to their engine, which not every engine fulfils. Absent: they do not. */
  readonly requestsOfEngine?: boolean;
  /** What there is now. @throws when it cannot tell */
  inspect(signal: AbortSignal): Promise<AcceleratorInventory>;
  /** What a kernel needs to use its devices. @param shares What it has of them; never empty. */
  contribute(shares: DeviceShares, target: KernelTarget, signal: AbortSignal): Promise<Partial<DeviceContribution>>;
  /** What all devices do now. Absent: cannot be measured. */
  measureDevices?(signal: AbortSignal): Promise<readonly DeviceMeasurement[]>;
  /** What one kernel does with its devices. Absent: cannot be measured. */
  measureKernel?(kernel: MeasuredKernel, signal: AbortSignal): Promise<readonly DeviceMeasurement[]>;
  close?(): Promise<void>;
}

export type CreateAccelerator = (
  settings: PluginSettings,
  context: PluginContext,
) => AcceleratorPlugin | Promise<AcceleratorPlugin>;

/** As configured; each plugin checks its own. */
export type PluginSettings = Readonly<Record<string, unknown>>;

export interface PluginContext {
  /** Where programs are looked for besides the system's folders. */
  readonly path: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Amounts as decimal texts, by slot and device. */
export type DeviceShares = Readonly<Record<string, Readonly<Record<string, string>>>>;

export interface KernelTarget {
  readonly kernelId: string;
  readonly backend: string;
}

export interface MeasuredKernel {
  readonly shares: DeviceShares;
  /** Its processes, as this machine numbers them. */
  readonly pids: readonly number[];
}

const amountSchema = z.string().regex(/^\d+(\.\d{1,3})?$/);
const deviceIdSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9:._/-]{0,127}$/);

const deviceSchema = z.object({
  /** Unique among the devices of the plugin; the same again after a restart. */
  id: deviceIdSchema,
  model: z.string().max(128),
  numaNode: z.number().int().min(0).nullable(),
  memoryBytes: z.number().int().min(0).nullable(),
  /** Multiprocessors or compute units. */
  processors: z.number().int().min(0).nullable(),
  /** Where it is plugged in: `0000:3b:00.0`. */
  location: z.string().max(128).nullable(),
  /** The device of which this one is a part. */
  parent: deviceIdSchema.nullable(),
});
export type AcceleratorDevice = z.infer<typeof deviceSchema>;

const slotSchema = z.object({
  name: z.string().regex(/^[a-z][a-z0-9.:_-]{0,63}$/i),
  /** `unique`: a kernel has one of these devices at most. `unified`: every kernel has all of them without asking. */
  type: z.enum(['count', 'unique', 'unified']),
  /** `quantum`: devices are shared, in multiples of it. */
  division: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('discrete') }),
    z.object({ kind: z.literal('fraction'), quantum: amountSchema }),
  ]),
  /** By device id; a device belongs to one slot. */
  capacity: z.record(deviceIdSchema, amountSchema),
  /** How it is shown to people. */
  title: z.string().max(64),
  description: z.string().max(256),
  unit: z.string().max(32),
  icon: z.string().max(32),
  numberFormat: z.object({ binary: z.boolean(), roundLength: z.number().int().min(0) }),
});
export type AcceleratorSlot = z.infer<typeof slotSchema>;

export const acceleratorInventorySchema = z.object({
  devices: z.array(deviceSchema).max(1024),
  slots: z.array(slotSchema).max(64),
  /** Of the slots that match these patterns, with `*` for anything, a kernel has a single one. */
  exclusive: z.array(z.string()),
  /** Versions of drivers and the like, for people. */
  attributes: z.record(z.string(), z.string()),
});
export type AcceleratorInventory = z.infer<typeof acceleratorInventorySchema>;

const absolutePath = z.string().regex(/^\/[^\0]*$/);

/** What is added to a kernel so that it can use its devices. */
export const deviceContributionSchema = z.object({
  environ: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string()),
  /** Device files, as they are called on the machine and in the kernel. */
  files: z.array(absolutePath),
  /** Other files and folders, read-only. */
  mounts: z.array(z.object({ source: absolutePath, target: absolutePath })),
  /** Groups that may open the device files. */
  groups: z.array(z.number().int().min(0)),
  /** Requests to a container engine, as its API has them. */
  deviceRequests: z.array(
    z.object({ driver: z.string(), deviceIds: z.array(z.string()), capabilities: z.array(z.array(z.string())) }),
  ),
  /** Lines of /home/config/resource.txt. */
  resourceLines: z.record(z.string().regex(/^[A-Z][A-Z0-9_]*$/), z.string().regex(/^[^\n\0]*$/)),
});
export type DeviceContribution = z.infer<typeof deviceContributionSchema>;

export const noContribution: DeviceContribution = {
  environ: {},
  files: [],
  mounts: [],
  groups: [],
  deviceRequests: [],
  resourceLines: {},
};

const measure = z.number().min(0).nullable();

export const deviceMeasurementSchema = z.object({
  deviceId: deviceIdSchema,
  /** Of the device, 0 to 100. */
  utilizationPercent: measure,
  memoryUsedBytes: measure,
  memoryTotalBytes: measure,
  powerWatts: measure,
  temperatureCelsius: measure,
});
/** Null: this cannot be measured. */
export type DeviceMeasurement = z.infer<typeof deviceMeasurementSchema>;

/** Ids of the devices in shares, each once, in order. */
export function devicesIn(shares: DeviceShares): string[] {
  return [...new Set(Object.values(shares).flatMap((devices) => Object.keys(devices)))];
}
