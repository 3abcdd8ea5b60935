import { AppError, amountFromText, type Clock } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { z } from 'zod';
import type { Allocation, Inventory, SlotPool } from '../resources/inventory.ts';
import {
  type AcceleratorDevice,
  type AcceleratorInventory,
  type AcceleratorPlugin,
  type AcceleratorSlot,
  acceleratorInventorySchema,
  type DeviceContribution,
  type DeviceMeasurement,
  type DeviceShares,
  deviceContributionSchema,
  deviceMeasurementSchema,
  type KernelTarget,
  noContribution,
} from './accelerator-plugin.ts';
import { deviceEnvironment, type HeldDevices } from './device-environment.ts';
import { withinDeadline } from './within-deadline.ts';

/** A plugin that is to be, and how it comes to be. */
export interface PluginSource {
  /** As it is configured. */
  readonly name: string;
  readonly create: () => Promise<AcceleratorPlugin>;
}

export interface AcceleratorsOptions {
  readonly sources: readonly PluginSource[];
  readonly clock: Clock;
  readonly logger: Logger;
  /** For each call into a plugin, in milliseconds. */
  readonly deadlineMs?: number | undefined;
}

/** What operators see of one plugin. */
export interface PluginStatus {
  readonly name: string;
  readonly key: string | null;
  readonly version: string | null;
  readonly state: 'ready' | 'failed';
  /** What went wrong last; null when nothing did. */
  readonly problem: string | null;
  readonly attributes: Readonly<Record<string, string>>;
  readonly devices: readonly AcceleratorDevice[];
  readonly slots: readonly AcceleratorSlot[];
}

interface Entry {
  readonly source: PluginSource;
  plugin: AcceleratorPlugin | null;
  inventory: AcceleratorInventory | null;
  problem: string | null;
  /** A call that has not come back, though its time is over: no other is begun meanwhile. */
  readonly underWay: Map<string, Promise<unknown>>;
}

const defaultDeadlineMs = 10_000;
/** An agent that ends waits for measurements under way. */
const measureDeadlineMs = 5_000;
const ownSlots = ['cpu', 'mem'];

/**
 * All accelerator plugins behind one wall: what they say is checked, and one that fails, or never answers, is shown as
 * failed and keeps none of the others, and not the agent, from anything.
 */
export class Accelerators {
  readonly #options: AcceleratorsOptions;
  readonly #entries: readonly Entry[];
  #engineRefusal: string | null = null;

  constructor(options: AcceleratorsOptions) {
    this.#options = options;
    this.#entries = options.sources.map((source) => ({
      source,
      plugin: null,
      inventory: null,
      problem: 'has not been started',
      underWay: new Map(),
    }));
  }

  /** Looks at the hardware, again if it has before: devices may come, go or recover. Does not throw. */
  async refresh(): Promise<void> {
    await Promise.all(this.#entries.map((entry) => this.#refreshOne(entry)));
  }

  /**
   * What containers would have to request of their engine is not offered where that does not hand it out.
   * @param refusal Why it does not; null: it does, or kernels are not containers
   */
  restrict(refusal: string | null): void {
    this.#engineRefusal = refusal;
  }

  status(): PluginStatus[] {
    return this.#entries.map((entry) => {
      const { source, plugin, inventory } = entry;
      const problem = entry.problem ?? this.#refusalOf(plugin);
      return {
        name: source.name,
        key: plugin?.key ?? null,
        version: plugin?.version ?? null,
        state: problem === null ? 'ready' : 'failed',
        problem,
        attributes: inventory?.attributes ?? {},
        devices: inventory?.devices ?? [],
        slots: inventory?.slots ?? [],
      };
    });
  }

  #refusalOf(plugin: AcceleratorPlugin | null): string | null {
    return plugin?.requestsOfEngine ? this.#engineRefusal : null;
  }

  /** What a machine has, with its accelerators. @throws AppError `config-invalid` when it is said to have theirs */
  extend(machine: Inventory): Inventory {
    const present = this.#present();
    const pools = present.flatMap(({ plugin, inventory }) => poolsOf(plugin.key, inventory));
    const both = machine.pools.find(({ slot }) => pools.some((pool) => pool.slot === slot));
    if (both) {
      throw new AppError('config-invalid', `The amount of ${both.slot} is what its accelerator plugin finds.`, {
        hint: `Leave ${both.slot} out of resources.slots; single devices are kept back with the plugin's device-mask.`,
      });
    }
    const unified = present.flatMap(({ inventory }) => inventory.slots.filter(({ type }) => type === 'unified'));
    return {
      ...machine,
      pools: [...machine.pools, ...pools],
      exclusive: [...machine.exclusive, ...present.map(({ inventory }) => inventory.exclusive)],
      unified: Object.fromEntries(unified.map(({ name, capacity }) => [name, Object.keys(capacity)])),
    };
  }

  /** Whether any of its devices is a plugin's. */
  concerns(allocation: Allocation): boolean {
    return this.#entries.some(
      ({ plugin, inventory }) => plugin && Object.keys(sharesOf(plugin.key, inventory, allocation)).length > 0,
    );
  }

  /**
   * What a kernel needs for its devices, of all plugins together.
   * @throws AppError `kernel-start-failed` when one of them cannot say
   */
  async contribute(allocation: Allocation, target: KernelTarget): Promise<DeviceContribution> {
    const parts: DeviceContribution[] = [];
    const held: HeldDevices[] = [];
    for (const entry of this.#entries) {
      const { plugin, source } = entry;
      const shares = plugin ? sharesOf(plugin.key, entry.inventory, allocation) : {};
      if (!plugin || Object.keys(shares).length === 0) continue;
      const part = await this.#call(entry, null, 'preparing devices', (signal) =>
        plugin.contribute(shares, target, signal),
      ).catch((cause: unknown) => {
        throw new AppError('kernel-start-failed', `The accelerator plugin ${source.name} could not prepare devices.`, {
          cause,
        });
      });
      if (entry.inventory) held.push({ key: plugin.key, inventory: entry.inventory, shares });
      parts.push(checked(deviceContributionSchema, { ...noContribution, ...part }, source.name));
    }
    return parts.reduce(merge, { ...noContribution, environ: deviceEnvironment(held) });
  }

  /** What all devices do, by plugin key. A plugin that cannot tell is left out. */
  async measureDevices(): Promise<ReadonlyMap<string, readonly DeviceMeasurement[]>> {
    const what = 'measuring devices';
    return await this.#measure(what, what, (plugin, _entry, signal) => plugin.measureDevices?.(signal));
  }

  /** What one kernel does with its devices, by plugin key. Does not throw, also when its processes cannot be found. */
  async measureKernel(
    kernelId: string,
    allocation: Allocation,
    pids: () => readonly number[],
  ): Promise<ReadonlyMap<string, readonly DeviceMeasurement[]>> {
    if (!this.concerns(allocation)) return new Map();
    return await this.#measure('measuring a kernel', kernelId, (plugin, { inventory }, signal) => {
      const shares = sharesOf(plugin.key, inventory, allocation);
      return Object.keys(shares).length === 0 ? undefined : plugin.measureKernel?.({ shares, pids: pids() }, signal);
    });
  }

  async close(): Promise<void> {
    await Promise.all(
      this.#entries.map((entry) =>
        this.#call(entry, null, 'closing', async () => entry.plugin?.close?.()).catch((error: unknown) =>
          this.#options.logger.warn('accelerator plugin did not close', { plugin: entry.source.name, error }),
        ),
      ),
    );
  }

  #present(): Array<{ readonly plugin: AcceleratorPlugin; readonly inventory: AcceleratorInventory }> {
    return this.#entries.flatMap(({ plugin, inventory }) =>
      plugin && inventory && this.#refusalOf(plugin) === null ? [{ plugin, inventory }] : [],
    );
  }

  async #refreshOne(entry: Entry): Promise<void> {
    const { logger } = this.#options;
    const { name } = entry.source;
    try {
      const { plugin, inventory } = await this.#call(entry, 'inspect', 'looking for devices', async (signal) => {
        const plugin = entry.plugin ?? (await entry.source.create());
        return { plugin, inventory: checked(acceleratorInventorySchema, await plugin.inspect(signal), name) };
      });
      checkSlots(
        plugin.key,
        inventory,
        this.#present().filter((other) => other.plugin.key !== plugin.key),
      );
      Object.assign(entry, { plugin, inventory, problem: null });
    } catch (error) {
      const { message } = AppError.from(error);
      if (entry.problem !== message) logger.warn('accelerator plugin failed', { plugin: name, error });
      // Devices that nobody can see are not given away; kernels that have them keep them.
      Object.assign(entry, { inventory: null, problem: message });
    }
  }

  /** @param kind Of measurements of one kind there is one at a time */
  async #measure(
    what: string,
    kind: string,
    ask: (
      plugin: AcceleratorPlugin,
      entry: Entry,
      signal: AbortSignal,
    ) => Promise<readonly DeviceMeasurement[]> | undefined,
  ): Promise<ReadonlyMap<string, readonly DeviceMeasurement[]>> {
    const measured = new Map<string, readonly DeviceMeasurement[]>();
    await Promise.all(
      this.#entries.map(async (entry) => {
        const { plugin, source } = entry;
        if (!plugin || !entry.inventory) return;
        try {
          const measuring = async (signal: AbortSignal) => ask(plugin, entry, signal);
          const told = await this.#call(entry, kind, what, measuring, measureDeadlineMs);
          if (told) measured.set(plugin.key, checked(z.array(deviceMeasurementSchema), told, source.name));
        } catch (error) {
          this.#options.logger.debug('accelerator plugin could not measure', { plugin: source.name, error });
        }
      }),
    );
    return measured;
  }

  /** @param kind Of calls of one kind there is one at a time; null: any number. */
  async #call<Value>(
    entry: Entry,
    kind: string | null,
    what: string,
    work: (signal: AbortSignal) => Promise<Value>,
    mostMs = Number.POSITIVE_INFINITY,
  ): Promise<Value> {
    const { clock } = this.#options;
    const deadlineMs = Math.min(this.#options.deadlineMs ?? defaultDeadlineMs, mostMs);
    const label = `The accelerator plugin ${entry.source.name}: ${what}`;
    if (kind === null) return await withinDeadline(clock, deadlineMs, label, work);
    if (entry.underWay.has(kind)) throw new AppError('deadline-exceeded', `${label} has not come back yet.`);
    return await withinDeadline(clock, deadlineMs, label, (signal) => {
      const working = work(signal).finally(() => entry.underWay.delete(kind));
      entry.underWay.set(kind, working);
      return working;
    });
  }
}

function poolsOf(family: string, { devices, slots }: AcceleratorInventory): SlotPool[] {
  return slots.flatMap(({ name, type, division, capacity }) => {
    if (type === 'unified') return [];
    const pooled = devices
      .filter(({ id }) => Object.hasOwn(capacity, id))
      .map(({ id, numaNode }) => ({ id, numaNode, capacity: amountFromText(capacity[id] ?? '0') }));
    const cut =
      division.kind === 'fraction'
        ? ({ kind: 'fraction', quantum: amountFromText(division.quantum) } as const)
        : ({ kind: 'discrete', unit: 1000n, divisible: false } as const);
    return [{ slot: name, family, type, division: cut, devices: pooled }];
  });
}

/** What of an allocation is the plugin's: also of slots that it does not offer just now. */
function sharesOf(key: string, inventory: AcceleratorInventory | null, { slots, unified }: Allocation): DeviceShares {
  const offered = new Set(inventory?.slots.map(({ name }) => name));
  const isOwn = (slot: string): boolean => offered.has(slot) || slot.startsWith(`${key}.`);
  const whole = Object.entries(unified).map(
    ([slot, devices]) => [slot, Object.fromEntries(devices.map((id) => [id, '1']))] as const,
  );
  return Object.fromEntries([...Object.entries(slots), ...whole].filter(([slot]) => isOwn(slot)));
}

/** @throws AppError `config-invalid` */
function checkSlots(
  key: string,
  { devices, slots }: AcceleratorInventory,
  others: ReadonlyArray<{ readonly inventory: AcceleratorInventory }>,
): void {
  const taken = new Set([...ownSlots, ...others.flatMap(({ inventory }) => inventory.slots.map(({ name }) => name))]);
  const refuse = (message: string): never => {
    throw new AppError('config-invalid', `The accelerator plugin for ${key} ${message}.`);
  };
  if (new Set(devices.map(({ id }) => id)).size < devices.length) refuse('names two devices alike');
  for (const { name, division, capacity } of slots) {
    if (taken.has(name)) refuse(`offers ${name}, which something else offers, too`);
    taken.add(name);
    const stray = Object.keys(capacity).find((id) => !devices.some((device) => device.id === id));
    if (stray !== undefined) refuse(`offers ${name} of ${stray}, which is no device of its own`);
    if (division.kind === 'fraction' && amountFromText(division.quantum) === 0n) refuse(`cuts ${name} by nothing`);
  }
}

function checked<Value>(schema: z.ZodType<Value>, said: unknown, plugin: string): Value {
  const { success, data, error } = schema.safeParse(said);
  if (success) return data;
  const [issue] = error.issues;
  throw new AppError('internal', `The accelerator plugin ${plugin} says ${issue?.path.join('.')}: ${issue?.message}.`);
}

function merge(left: DeviceContribution, right: DeviceContribution): DeviceContribution {
  return {
    environ: { ...left.environ, ...right.environ },
    files: [...new Set([...left.files, ...right.files])],
    mounts: [...left.mounts, ...right.mounts],
    groups: [...new Set([...left.groups, ...right.groups])],
    deviceRequests: [...left.deviceRequests, ...right.deviceRequests],
    resourceLines: { ...left.resourceLines, ...right.resourceLines },
  };
}
