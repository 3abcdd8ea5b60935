import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { runFoundProgram } from '../../files/programs.ts';
import {
  type AcceleratorInventory,
  type AcceleratorPlugin,
  type DeviceContribution,
  type DeviceMeasurement,
  type DeviceShares,
  devicesIn,
  type KernelTarget,
  type MeasuredKernel,
  type PluginContext,
  type PluginSettings,
} from '../accelerator-plugin.ts';
import { deviceMaskSetting, readSettings } from '../plugin-settings.ts';
import { cardQuery, measureQuery, parseCards, parseMeasurements, type RocmCard } from './rocm-smi.ts';

export const rocmProgram = 'rocm-smi';

const settingsSchema = z.strictObject({ deviceMask: deviceMaskSetting.default(new Set<string>()) });

/** Through which programs reach the driver, whichever card they use. */
const driverFile = '/dev/kfd';
const pciDevices = '/sys/bus/pci/devices';

/** What the plugin reads of the machine besides the program. */
export interface RocmMachine {
  readText(path: string): string | null;
  list(folder: string): readonly string[];
  /** Group of a file; null: there is no such file. */
  groupOf(file: string): number | null;
}

/** @param machine For tests. */
export function createRocmPlugin(
  settings: PluginSettings,
  context: PluginContext,
  machine: RocmMachine = realMachine,
): AcceleratorPlugin {
  return new RocmPlugin(readSettings('rocm', settingsSchema, settings), context, machine);
}

/** GPUs of AMD, as `rocm-smi` knows them: whole ones. */
class RocmPlugin implements AcceleratorPlugin {
  readonly key = 'rocm';
  readonly version = '1';
  readonly #settings: z.output<typeof settingsSchema>;
  readonly #context: PluginContext;
  readonly #machine: RocmMachine;
  #cards: readonly RocmCard[] = [];

  constructor(settings: z.output<typeof settingsSchema>, context: PluginContext, machine: RocmMachine) {
    this.#settings = settings;
    this.#context = context;
    this.#machine = machine;
  }

  async inspect(signal: AbortSignal): Promise<AcceleratorInventory> {
    const cards = parseCards(await this.#ask(cardQuery, signal));
    this.#cards = cards;
    const offered = cards.filter(({ id }) => !this.#settings.deviceMask.has(id));
    return {
      devices: offered.map(({ id, model, busId, memoryBytes }) => {
        const numaNode = this.#numaNodeOf(busId);
        return { id, model, numaNode, memoryBytes, processors: null, location: busId, parent: null };
      }),
      slots: [
        {
          name: 'rocm.device',
          type: 'count',
          division: { kind: 'discrete' },
          capacity: Object.fromEntries(offered.map(({ id }) => [id, '1'])),
          title: 'ROCm GPU',
          description: 'GPUs of AMD',
          unit: 'GPU',
          icon: 'gpu1',
          numberFormat: { binary: false, roundLength: 0 },
        },
      ],
      exclusive: [],
      attributes: {},
    };
  }

  /**
   * The device files are all it takes: cards whose file a kernel cannot open do not exist for it, so its own ones count
   * from 0, and no variable has to name them.
   */
  async contribute(shares: DeviceShares, _target: KernelTarget): Promise<Partial<DeviceContribution>> {
    const ids = devicesIn(shares);
    const files = [driverFile, ...ids.flatMap((id) => this.#filesOf(id))];
    const groups = files.map((file) => this.#machine.groupOf(file)).filter((group) => group !== null && group !== 0);
    return {
      files,
      groups: [...new Set(groups as number[])],
      environ: { ROCR_VISIBLE_DEVICES: ids.map((_, index) => index).join(',') },
      resourceLines: { ROCM_GLOBAL_DEVICE_IDS: ids.map((id, index) => `${index}:${id}`).join(',') },
    };
  }

  async measureDevices(signal: AbortSignal): Promise<readonly DeviceMeasurement[]> {
    return parseMeasurements(await this.#ask(measureQuery, signal));
  }

  /** Nobody else has its cards. */
  async measureKernel({ shares }: MeasuredKernel, signal: AbortSignal): Promise<readonly DeviceMeasurement[]> {
    const ids = new Set(devicesIn(shares));
    return (await this.measureDevices(signal)).filter(({ deviceId }) => ids.has(deviceId));
  }

  #filesOf(id: string): string[] {
    const card = this.#cards.find((each) => each.id === id);
    if (!card) return [];
    const nodes = this.#machine.list(join(pciDevices, card.busId, 'drm'));
    return nodes.filter((name) => /^renderD\d+$/.test(name)).map((name) => `/dev/dri/${name}`);
  }

  #numaNodeOf(busId: string): number | null {
    const text = this.#machine.readText(join(pciDevices, busId, 'numa_node'))?.trim() ?? '';
    return /^\d+$/.test(text) ? Number(text) : null;
  }

  #ask(query: readonly string[], signal: AbortSignal): Promise<string> {
    return runFoundProgram(rocmProgram, this.#context.path, query, signal);
  }
}

const realMachine: RocmMachine = {
  readText: (path) => orNull(() => readFileSync(path, 'utf8')),
  list: (folder) => orNull(() => readdirSync(folder)) ?? [],
  groupOf: (file) => orNull(() => statSync(file).gid),
};

function orNull<Value>(read: () => Value): Value | null {
  try {
    return read();
  } catch {
    return null;
  }
}
