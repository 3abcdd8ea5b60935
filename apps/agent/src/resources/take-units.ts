import { freestFirst, type Room } from './affinity.ts';

/**
 * How an amount is taken from devices, counted in units that cannot be cut: cores, whole devices, bytes, or the quanta of
 * shares. Pure: rooms go in, units by device come out, and nothing remembers them here.
 */

/** `evenly` spreads over devices; `fill` uses up one after the other. */
export type AllocationStrategy = 'evenly' | 'fill';

/** Units by device id; no zeros. */
export type Units = ReadonlyMap<string, bigint>;

type Tiers = ReadonlyArray<readonly Room[]>;

/** As many tiers as it takes; null: all of them are too little. */
export function enoughTiers(tiers: Tiers, units: bigint): Room[] | null {
  const rooms: Room[] = [];
  let free = 0n;
  for (const tier of tiers) {
    rooms.push(...tier);
    free += tier.reduce((sum, room) => sum + room.free, 0n);
    if (free >= units) return rooms;
  }
  return null;
}

/** Whole units of devices. Null: too little is free. */
export function takeDiscrete(tiers: Tiers, units: bigint, strategy: AllocationStrategy): Units | null {
  const rooms = enoughTiers(tiers, units);
  if (!rooms) return null;
  return strategy === 'fill' ? fill(rooms, units) : spread(rooms, units);
}

/** As much as possible from each in turn. */
export function fill(rooms: readonly Room[], units: bigint): Units {
  const taken = new Map<string, bigint>();
  let left = units;
  for (const { id, free } of rooms) {
    const part = free < left ? free : left;
    if (part > 0n) taken.set(id, part);
    left -= part;
  }
  return taken;
}

/**
 * As equal parts as there is room for: the quotient to each device with room, again and again; what is then less than one
 * for each goes to the first of them.
 */
export function spread(rooms: readonly Room[], units: bigint): Units {
  const taken = new Map<string, bigint>();
  const roomIn = ({ id, free }: Room): bigint => free - (taken.get(id) ?? 0n);
  for (let left = units; left > 0n; ) {
    const open = rooms.filter((room) => roomIn(room) > 0n);
    if (open.length === 0) break;
    const quotient = left / BigInt(open.length);
    for (const room of quotient > 0n ? open : open.slice(0, Number(left))) {
      const most = quotient > 0n ? quotient : 1n;
      const part = roomIn(room) < most ? roomIn(room) : most;
      taken.set(room.id, (taken.get(room.id) ?? 0n) + part);
      left -= part;
    }
  }
  return taken;
}

/**
 * Shares of devices. `evenly` keeps to one device where one can hold everything, the one with the least left over; else
 * it tries neighbouring devices, more and more of them, and prefers equal shares, then fewer devices, then fewer of them
 * left half used. Null: too little is free.
 */
export function takeFraction(tiers: Tiers, quanta: bigint, strategy: AllocationStrategy): Units | null {
  if (strategy === 'evenly') {
    const one = firstTightest(tiers, quanta);
    if (one) return new Map([[one.id, quanta]]);
  }
  const rooms = enoughTiers(tiers, quanta);
  if (!rooms) return null;
  return strategy === 'fill' ? fill(rooms, quanta) : bestWindow(rooms, quanta);
}

/**
 * Shares of as few devices as an empty machine would need, cut as it would cut them: nothing is scattered over the rests
 * that others left. Null: no such devices are free.
 * @param capacities Of all devices, in units.
 */
export function takeUnfragmented(tiers: Tiers, capacities: readonly bigint[], quanta: bigint): Units | null {
  const largest = freestFirst(capacities.map((free, index) => ({ id: String(index), free, numaNode: null })));
  let devices = 0;
  for (let held = 0n; held < quanta; devices++) {
    const next = largest[devices];
    if (!next) return null;
    held += next.free;
  }
  const shares = [...spread(largest.slice(0, devices), quanta).values()].sort((a, b) => (a < b ? 1 : a > b ? -1 : 0));
  const taken = new Map<string, bigint>();
  for (const share of shares) {
    const rest = tiers.map((tier) => tier.filter(({ id }) => !taken.has(id)));
    const room = firstTightest(rest, share);
    if (!room) return null;
    taken.set(room.id, share);
  }
  return taken;
}

/** In the first tier that has a device with so much room, the one that is left with least. */
function firstTightest(tiers: Tiers, units: bigint): Room | undefined {
  for (const tier of tiers) {
    let tightest: Room | undefined;
    for (const room of tier) if (room.free >= units && (!tightest || room.free < tightest.free)) tightest = room;
    if (tightest) return tightest;
  }
  return undefined;
}

function bestWindow(all: readonly Room[], quanta: bigint): Units | null {
  const rooms = all.filter(({ free }) => free > 0n);
  let best: { readonly taken: Units; readonly unevenness: bigint; readonly halfUsed: number } | undefined;
  for (let size = 1; size <= rooms.length; size++) {
    for (let start = 0; start + size <= rooms.length; start++) {
      const window = rooms.slice(start, start + size);
      if (window.reduce((sum, { free }) => sum + free, 0n) < quanta) continue;
      const taken = spread(window, quanta);
      const unevenness = unevennessOf([...taken.values()]);
      const halfUsed = window.filter(({ id, free }) => taken.has(id) && taken.get(id) !== free).length;
      // Smaller windows come first: of equals the one with fewer devices stays.
      const better =
        !best ||
        unevenness < best.unevenness ||
        (unevenness === best.unevenness && taken.size === best.taken.size && halfUsed < best.halfUsed);
      if (better) best = { taken, unevenness, halfUsed };
    }
    // Nothing is more even, and more devices are only worse.
    if (best?.unevenness === 0n) break;
  }
  return best?.taken ?? null;
}

/** Shares that differ by one quantum are equal ones, rounded. */
function unevennessOf(shares: readonly bigint[]): bigint {
  const difference = shares.reduce((most, each) => (each > most ? each : most), 0n) - shares.reduce(smaller);
  return difference > 1n ? difference : 0n;
}

function smaller(left: bigint, right: bigint): bigint {
  return left < right ? left : right;
}
