import type { ResourceSlots, SlotType } from '@backend.ai/core';
import { z } from 'zod';
import type { NumaTopology } from './numa.ts';

/** Amounts by device, in thousandths like those of `ResourceSlots`. */
export type DeviceAmounts = ReadonlyMap<string, bigint>;

export interface PooledDevice {
  /** Unique in its pool. */
  readonly id: string;
  readonly capacity: bigint;
  /** Null: near to no processor in particular. */
  readonly numaNode: number | null;
}

/** How amounts of a slot are taken from its devices. All amounts are in thousandths. */
export type Division =
  /** In whole units. `divisible`: a rest below one unit is taken as well, from a device of which others have the rest. */
  | { readonly kind: 'discrete'; readonly unit: bigint; readonly divisible: boolean }
  /** In shares of a device, each a multiple of the quantum. */
  | { readonly kind: 'fraction'; readonly quantum: bigint };

/** The devices from which one slot is served. */
export interface SlotPool {
  readonly slot: string;
  /** What the devices are: `cpu`, `mem`, or the key of an accelerator plugin. */
  readonly family: string;
  readonly type: SlotType;
  readonly division: Division;
  /** In their physical order. */
  readonly devices: readonly PooledDevice[];
}

/** All that kernels of this machine can be given. */
export interface Inventory {
  readonly pools: readonly SlotPool[];
  /** Of the slots that match patterns of one set, a kernel can have a single one. `*` stands for anything. */
  readonly exclusive: ReadonlyArray<readonly string[]>;
  /** Devices that every kernel gets without asking, by slot. */
  readonly unified: Readonly<Record<string, readonly string[]>>;
  readonly topology: NumaTopology;
  /** Whether the devices of `cpu` are processors of this machine, so that kernels can be kept to theirs. */
  readonly realCpus: boolean;
}

const deviceAmountsSchema = z.record(z.string(), z.string().regex(/^\d+(\.\d{1,3})?$/));

/** What one kernel has been given: plain data, kept in its facts. */
export const allocationSchema = z.object({
  /** Decimal texts by slot and device. */
  slots: z.record(z.string(), deviceAmountsSchema),
  /** Devices that it has without having asked, by slot. */
  unified: z.record(z.string(), z.array(z.string())),
  /** The processors it is kept to; null: any. */
  cpus: z.array(z.number().int().min(0)).nullable(),
});
export type Allocation = z.infer<typeof allocationSchema>;

/** One nameless device that can be cut anywhere: amounts of which only the sum matters. */
export function plainPool(slot: string, type: SlotType, capacity: bigint): SlotPool {
  return {
    slot,
    family: slot.split('.')[0] ?? slot,
    type,
    division: { kind: 'discrete', unit: 1n, divisible: false },
    devices: [{ id: 'root', capacity, numaNode: null }],
  };
}

export function capacityOf({ pools }: Pick<Inventory, 'pools'>): ResourceSlots {
  return Object.fromEntries(
    pools.map(({ slot, devices }) => [slot, devices.reduce((sum, { capacity }) => sum + capacity, 0n)]),
  );
}
