import { readFileSync } from 'node:fs';
import { AppError, amountFromText, amountToText } from '@backend.ai/core';
import { parseToml } from '@backend.ai/runtime';
import { z } from 'zod';
import {
  type AcceleratorDevice,
  type AcceleratorInventory,
  type AcceleratorPlugin,
  type AcceleratorSlot,
  type DeviceContribution,
  type DeviceMeasurement,
  type DeviceShares,
  devicesIn,
  type MeasuredKernel,
  type PluginContext,
  type PluginSettings,
} from '../accelerator-plugin.ts';
import {
  allocationModeSetting,
  deviceMaskSetting,
  quantumSetting,
  readSettings,
  sizeSetting,
} from '../plugin-settings.ts';

const mebibyte = 1024 * 1024;

const settingsSchema = z.strictObject({
  /** TOML with the devices; see `devicesSchema`. */
  devicesFile: z.string().startsWith('/', 'must be an absolute path'),
  allocationMode: allocationModeSetting.default('discrete'),
  /** One share is so much memory and so many processors; what a device has less of says how many shares it is. */
  unitMem: sizeSetting.default(2048 * mebibyte).refine((bytes) => bytes >= 512 * mebibyte, 'must be at least 512m'),
  unitProc: z.coerce.number().int().min(2).default(8),
  quantum: quantumSetting.default('0.1'),
  /** Told to kernels that share a device. */
  reservedMemory: sizeSetting.default(64 * mebibyte),
  deviceMask: deviceMaskSetting.default(new Set<string>()),
});

const formatSchema = z.object({
  human_readable_name: z.string(),
  description: z.string(),
  display_unit: z.string(),
  display_icon: z.string(),
  number_format: z.object({ binary: z.boolean(), round_length: z.number().int().min(0) }),
});

/** As the original writes them. */
const devicesSchema = z.object({
  slot_name: z.string().regex(/^[a-z][a-z0-9-]{0,31}$/),
  device_plugin_name: z.string(),
  devices: z.array(
    z.object({
      mother_uuid: z.string().min(1),
      model_name: z.string(),
      numa_node: z.number().int().min(0),
      subproc_count: z.number().int().min(1),
      memory_size: sizeSetting,
      is_mig_device: z.boolean().default(false),
    }),
  ),
  attributes: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]).transform(String)).default({}),
  /** By what follows the first part of a slot's name: `device`, `shares`, `device:10g-mig`. */
  formats: z.record(z.string(), formatSchema).default({}),
});
type MockDevices = z.output<typeof devicesSchema>;

/** Programs that count processors are told at least so many. */
const fewestProcessors = 4;

export function createMockPlugin(settings: PluginSettings, context: PluginContext): AcceleratorPlugin {
  const read = readSettings('mock', settingsSchema, settings);
  return new MockPlugin(read, readDevices(read.devicesFile), context);
}

/** @throws AppError `config-invalid` */
function readDevices(file: string): MockDevices {
  let document: unknown;
  try {
    document = parseToml(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new AppError('config-invalid', `${file} cannot be read: ${AppError.from(cause).message}`, { cause });
  }
  return readSettings(`mock, in ${file}`, devicesSchema, document as PluginSettings);
}

/** Accelerators that exist in a file only: everything about them is true except that they compute. */
class MockPlugin implements AcceleratorPlugin {
  readonly key: string;
  readonly version = '1';
  readonly #settings: z.output<typeof settingsSchema>;
  readonly #described: MockDevices;
  readonly #context: PluginContext;
  readonly #devices: readonly AcceleratorDevice[];

  constructor(settings: z.output<typeof settingsSchema>, described: MockDevices, context: PluginContext) {
    this.key = described.slot_name;
    this.#settings = settings;
    this.#described = described;
    this.#context = context;
    this.#devices = described.devices
      .map((device, index) => ({
        id: device.is_mig_device ? `MIG-${device.mother_uuid}/${index}/0` : device.mother_uuid,
        model: device.model_name,
        numaNode: device.numa_node,
        memoryBytes: device.memory_size,
        processors: device.subproc_count,
        location: `0000:99:${index.toString(16).padStart(2, '0')}.0`,
        parent: device.is_mig_device ? device.mother_uuid : null,
      }))
      .filter(({ id }) => !settings.deviceMask.has(id));
  }

  async inspect(): Promise<AcceleratorInventory> {
    const { attributes, device_plugin_name: name } = this.#described;
    const slots = [...this.#wholeSlots(), ...this.#partSlots()];
    const exclusive = [`${this.key}.device`, `${this.key}.shares`, `${this.key}.device:*-mig`];
    return { devices: [...this.#devices], slots, exclusive, attributes: { 'Simulated by': name, ...attributes } };
  }

  async contribute(shares: DeviceShares): Promise<Partial<DeviceContribution>> {
    const ids = devicesIn(shares);
    const prefix = this.key.toUpperCase().replaceAll('-', '_');
    const parts = Object.entries(shares[`${this.key}.shares`] ?? {});
    const limits = (unit: number, least: number): string =>
      parts.map(([id, share]) => `${id}:${Math.max(least, Math.floor(unit * Number(share)))}`).join(',');
    const { unitMem, unitProc, reservedMemory } = this.#settings;
    return {
      environ: {
        [`BACKENDAI_MOCK_${prefix}_DEVICES`]: ids.join(','),
        [`BACKENDAI_MOCK_${prefix}_DEVICE_COUNT`]: String(ids.length),
        ...(this.key === 'cuda'
          ? { CUDA_VISIBLE_DEVICES: ids.join(','), TF_MIN_GPU_MULTIPROCESSOR_COUNT: String(fewestProcessors) }
          : {}),
      },
      resourceLines: {
        [`${prefix}_GLOBAL_DEVICE_IDS`]: ids.map((id, index) => `${index}:${id}`).join(','),
        [`${prefix}_RESOURCE_VIRTUALIZED`]: parts.length > 0 ? '1' : '0',
        ...(parts.length > 0
          ? {
              [`${prefix}_MEMORY_LIMITS`]: limits(unitMem, 0),
              [`${prefix}_PROCESSOR_LIMITS`]: limits(unitProc, fewestProcessors),
              [`${prefix}_RESERVED_MEMORY`]: String(reservedMemory),
            }
          : {}),
      },
    };
  }

  async measureDevices(): Promise<readonly DeviceMeasurement[]> {
    return this.#devices.map((device) => this.#measure(device, 1));
  }

  async measureKernel({ shares }: MeasuredKernel): Promise<readonly DeviceMeasurement[]> {
    const ids = new Set(devicesIn(shares));
    return this.#devices
      .filter(({ id }) => ids.has(id))
      .map((device) => {
        const share = Number(shares[`${this.key}.shares`]?.[device.id] ?? 0);
        const whole = Number(this.#sharesOf(device));
        return this.#measure(device, share > 0 && whole > 0 ? share / whole : 1);
      });
  }

  /** Goes up and down in a minute, each device for itself: nothing to rely on, and the same whenever time is. */
  #measure(device: AcceleratorDevice, part: number): DeviceMeasurement {
    const phase = this.#context.clock.now() / 60_000 + this.#devices.indexOf(device) / this.#devices.length;
    const load = (1 + Math.sin(2 * Math.PI * phase)) / 2;
    const memory = Math.floor((device.memoryBytes ?? 0) * part);
    return {
      deviceId: device.id,
      utilizationPercent: Math.round(load * 100),
      memoryUsedBytes: Math.floor(memory * (0.2 + 0.8 * load)),
      memoryTotalBytes: memory,
      powerWatts: Math.round(50 + 200 * load),
      temperatureCelsius: Math.round(40 + 40 * load),
    };
  }

  #wholeSlots(): AcceleratorSlot[] {
    const whole = this.#devices.filter(({ parent }) => parent === null);
    if (whole.length === 0) return [];
    const { allocationMode, quantum } = this.#settings;
    const capacityOf = (share: (device: AcceleratorDevice) => string) =>
      Object.fromEntries(whole.map((device) => [device.id, share(device)]));
    return allocationMode === 'discrete'
      ? [
          this.#slot(
            'device',
            'count',
            capacityOf(() => '1'),
          ),
        ]
      : [
          this.#slot(
            'shares',
            'count',
            capacityOf((device) => this.#sharesOf(device)),
            quantum,
          ),
        ];
  }

  #partSlots(): AcceleratorSlot[] {
    const parts = new Map<string, string[]>();
    for (const { id, model, parent } of this.#devices) {
      if (parent === null) continue;
      const profile = model.slice(model.indexOf('-') + 1);
      parts.set(profile, [...(parts.get(profile) ?? []), id]);
    }
    return [...parts].map(([profile, ids]) =>
      this.#slot(`device:${profile}-mig`, 'unique', Object.fromEntries(ids.map((id) => [id, '1']))),
    );
  }

  #slot(
    suffix: string,
    type: AcceleratorSlot['type'],
    capacity: AcceleratorSlot['capacity'],
    quantum?: string,
  ): AcceleratorSlot {
    const format = this.#described.formats[suffix];
    return {
      name: `${this.key}.${suffix}`,
      type,
      division: quantum === undefined ? { kind: 'discrete' } : { kind: 'fraction', quantum },
      capacity,
      title: format?.human_readable_name ?? `${this.key} ${suffix}`,
      description: format?.description ?? 'Simulated accelerator',
      unit: format?.display_unit ?? 'GPU',
      icon: format?.display_icon ?? 'gpu1',
      numberFormat: format
        ? { binary: format.number_format.binary, roundLength: format.number_format.round_length }
        : { binary: false, roundLength: quantum === undefined ? 0 : 2 },
    };
  }

  /** In shares, rounded down to hundredths. */
  #sharesOf({ memoryBytes, processors }: AcceleratorDevice): string {
    const { unitMem, unitProc } = this.#settings;
    const shares = Math.min((memoryBytes ?? 0) / unitMem, (processors ?? 0) / unitProc);
    return amountToText(amountFromText((Math.floor(shares * 100 + 1e-9) / 100).toFixed(2)));
  }
}
