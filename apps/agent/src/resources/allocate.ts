import { AppError, amountFromText, amountToText, lackingSlots, type ResourceSlots } from '@backend.ai/core';
import { type AffinityPolicy, affinityTiers, freestFirst, type Room } from './affinity.ts';
import type { Allocation, DeviceAmounts, Inventory, SlotPool } from './inventory.ts';
import {
  type AllocationStrategy,
  fill,
  takeDiscrete,
  takeFraction,
  takeUnfragmented,
  type Units,
} from './take-units.ts';

export interface AllocationRules {
  readonly strategy: AllocationStrategy;
  readonly affinity: AffinityPolicy;
}

export interface AllocationRequest {
  readonly slots: ResourceSlots;
  /** False: shares are not scattered over what others left of their devices. */
  readonly allowFragmentation: boolean;
}

/** What is held of each device, by slot. */
export type HeldDevices = ReadonlyMap<string, DeviceAmounts>;

const unit = 1000n;
/** Accelerators first: they decide near which processors a kernel is. Families that are not named stand before `cpu`. */
const familyOrder = ['cuda', 'rocm', 'tpu'];
const lastFamilies = ['cpu', 'mem'];

/**
 * Devices for everything a kernel asked for, or for nothing: the answer is new and nothing else has changed, so a request
 * that fails half-way leaves no trace.
 * @throws AppError `insufficient-capacity`, `invalid-input`
 */
export function allocate(
  inventory: Inventory,
  held: HeldDevices,
  { slots, allowFragmentation }: AllocationRequest,
  { strategy, affinity }: AllocationRules,
): Allocation {
  const asked = Object.entries(slots).filter(([, amount]) => amount > 0n);
  checkExclusive(
    inventory,
    asked.map(([slot]) => slot),
  );
  checkCapacity(inventory, held, slots);
  const pools = inventory.pools.filter(({ slot }) => asked.some(([name]) => name === slot)).sort(byFamily);
  const taken = new Map<string, DeviceAmounts>();
  let near: readonly number[] = [];
  for (const pool of pools) {
    const free = freeDevices(pool, held.get(pool.slot));
    const order = (rooms: readonly Room[]): Room[][] => affinityTiers(rooms, inventory.topology, affinity, near);
    const devices = takeFromPool(pool, free, slots[pool.slot] ?? 0n, { strategy, allowFragmentation, order });
    taken.set(pool.slot, devices);
    if (near.length === 0) near = nodesOf(pool, devices);
  }
  return {
    slots: Object.fromEntries([...taken].map(([slot, amounts]) => [slot, textsOf(amounts)])),
    unified: Object.fromEntries(Object.entries(inventory.unified).map(([slot, devices]) => [slot, [...devices]])),
    cpus:
      inventory.realCpus && taken.has('cpu') ? [...(taken.get('cpu')?.keys() ?? [])].map(Number).sort(byNumber) : null,
  };
}

/** What an allocation holds, by slot. */
export function slotsOf(allocation: Allocation): ResourceSlots {
  return Object.fromEntries(
    Object.entries(allocation.slots).map(([slot, devices]) => [
      slot,
      Object.values(devices).reduce((sum, text) => sum + amountFromText(text), 0n),
    ]),
  );
}

/** The sum of allocations, by slot and device. */
export function heldBy(allocations: Iterable<Allocation>): Map<string, Map<string, bigint>> {
  const held = new Map<string, Map<string, bigint>>();
  for (const { slots } of allocations) {
    for (const [slot, devices] of Object.entries(slots)) {
      const amounts = held.get(slot) ?? new Map<string, bigint>();
      held.set(slot, amounts);
      for (const [id, text] of Object.entries(devices)) amounts.set(id, (amounts.get(id) ?? 0n) + amountFromText(text));
    }
  }
  return held;
}

interface TakeOptions {
  readonly strategy: AllocationStrategy;
  readonly allowFragmentation: boolean;
  readonly order: (rooms: readonly Room[]) => Room[][];
}

function takeFromPool(pool: SlotPool, free: readonly Room[], amount: bigint, options: TakeOptions): DeviceAmounts {
  const { division } = pool;
  if (pool.type === 'unique' && amount !== unit) {
    throw new AppError('invalid-input', `Of ${pool.slot} a kernel can have a single one, not ${amountToText(amount)}.`);
  }
  if (division.kind === 'fraction') return takeShares(pool, division.quantum, free, amount, options);
  if (division.divisible) return takeDivisible(division.unit, free, amount, options);
  if (amount % division.unit !== 0n) {
    throw new AppError('invalid-input', `${pool.slot} comes in whole units, not in ${amountToText(amount)}.`);
  }
  const taken = takeDiscrete(options.order(inUnits(free, division.unit)), amount / division.unit, options.strategy);
  return toAmounts(taken ?? tooScattered(pool, amount), division.unit);
}

/** Whole units as far as they go; a rest goes to the device that is left with least. */
function takeDivisible(whole: bigint, free: readonly Room[], amount: bigint, options: TakeOptions): DeviceAmounts {
  const taken = takeDiscrete(options.order(inUnits(free, whole)), amount / whole, options.strategy);
  const rest = amount % whole;
  // There are too few whole ones: pieces do as well, as many as it takes.
  if (!taken) return fill(options.order(free).flat(), amount);
  const amounts = new Map(toAmounts(taken, whole));
  if (rest === 0n) return amounts;
  const left = free.filter(({ id }) => !taken.has(id));
  const tiers = options.order(left);
  return new Map([...amounts, ...(takeFraction(tiers, rest, 'evenly') ?? fill(freestFirst(free), rest))]);
}

function takeShares(
  pool: SlotPool,
  quantum: bigint,
  free: readonly Room[],
  amount: bigint,
  { strategy, allowFragmentation, order }: TakeOptions,
): DeviceAmounts {
  // Whatever is less than a quantum cannot be given: nobody is promised more than there is.
  const quanta = amount / quantum;
  if (quanta === 0n) {
    throw new AppError('invalid-input', `${amountToText(amount)} of ${pool.slot} is not a multiple of its quantum.`, {
      hint: `Ask for multiples of ${amountToText(quantum)}.`,
    });
  }
  const tiers = order(inUnits(free, quantum));
  const taken = allowFragmentation
    ? takeFraction(tiers, quanta, strategy)
    : takeUnfragmented(
        tiers,
        pool.devices.map(({ capacity }) => capacity / quantum),
        quanta,
      );
  return toAmounts(taken ?? tooScattered(pool, amount), quantum);
}

function tooScattered({ slot }: SlotPool, amount: bigint): never {
  throw new AppError('insufficient-capacity', `What is free of ${slot} is scattered over too many devices.`, {
    data: { [slot]: { wanted: amountToText(amount), free: 'scattered' } },
  });
}

function freeDevices({ devices }: SlotPool, held: DeviceAmounts | undefined): Room[] {
  return devices.map(({ id, capacity, numaNode }) => {
    const free = capacity - (held?.get(id) ?? 0n);
    return { id, numaNode, free: free > 0n ? free : 0n };
  });
}

function inUnits(rooms: readonly Room[], size: bigint): Room[] {
  return rooms.map((room) => ({ ...room, free: room.free / size }));
}

function toAmounts(units: Units, size: bigint): DeviceAmounts {
  return new Map([...units].map(([id, count]) => [id, count * size]));
}

function textsOf(amounts: DeviceAmounts): Record<string, string> {
  return Object.fromEntries([...amounts].map(([id, amount]) => [id, amountToText(amount)]));
}

function nodesOf({ devices }: SlotPool, taken: DeviceAmounts): number[] {
  const nodes = devices.flatMap(({ id, numaNode }) => (taken.has(id) && numaNode !== null ? [numaNode] : []));
  return [...new Set(nodes)];
}

function checkCapacity(inventory: Inventory, held: HeldDevices, slots: ResourceSlots): void {
  const free = Object.fromEntries(
    inventory.pools.map((pool) => {
      const rooms = freeDevices(pool, held.get(pool.slot));
      return [pool.slot, rooms.reduce((sum, room) => sum + room.free, 0n)];
    }),
  );
  const lacking = lackingSlots(slots, free);
  if (lacking.length === 0) return;
  throw new AppError('insufficient-capacity', `This agent has too little free: ${lacking.join(', ')}.`, {
    data: Object.fromEntries(
      lacking.map((name) => [name, { wanted: amountToText(slots[name] ?? 0n), free: amountToText(free[name] ?? 0n) }]),
    ),
  });
}

function checkExclusive({ exclusive }: Inventory, slots: readonly string[]): void {
  for (const patterns of exclusive) {
    const named = slots.filter((slot) => patterns.some((pattern) => matches(pattern, slot))).sort();
    if (named.length < 2) continue;
    throw new AppError('invalid-input', `A kernel can have only one of ${named.join(', ')}.`, {
      data: { fields: Object.fromEntries(named.map((slot) => [`resources.${slot}`, 'excludes the others'])) },
    });
  }
}

function matches(pattern: string, slot: string): boolean {
  const [head = '', ...others] = pattern.split('*');
  const tail = others.at(-1);
  if (tail === undefined) return slot === pattern;
  return slot.length >= head.length + tail.length && slot.startsWith(head) && slot.endsWith(tail);
}

function byFamily(left: SlotPool, right: SlotPool): number {
  const rank = ({ family }: SlotPool): number => {
    const [first, last] = [familyOrder.indexOf(family), lastFamilies.indexOf(family)];
    return first >= 0 ? first : familyOrder.length + (last >= 0 ? 1 + last : 0);
  };
  return rank(left) - rank(right) || (left.slot < right.slot ? -1 : 1);
}

function byNumber(left: number, right: number): number {
  return left - right;
}
