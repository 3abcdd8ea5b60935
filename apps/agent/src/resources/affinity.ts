import type { NumaTopology } from './numa.ts';

/**
 * How devices are chosen among the nodes of a machine. `interleaved` takes from them in turn; `prefer-single-node` uses
 * one up before it goes on to the next.
 */
export type AffinityPolicy = 'interleaved' | 'prefer-single-node';

/** A device with what is left of it, in whatever unit is counted. */
export interface Room {
  readonly id: string;
  readonly free: bigint;
  readonly numaNode: number | null;
}

/**
 * Devices in the order in which they are to be used: a tier is drawn on when the ones before it are not enough. Nearest to
 * the given nodes first, then whatever has most room.
 * @param near Nodes on which the kernel has devices already; none: all nodes are equal.
 */
export function affinityTiers(
  rooms: readonly Room[],
  topology: NumaTopology,
  policy: AffinityPolicy,
  near: readonly number[],
): Room[][] {
  const clusters = [...groupBy(rooms, ({ numaNode }) => numaNode)].map(([node, members]) => ({
    node,
    distance: distanceTo(node, topology, near),
    free: members.reduce((sum, { free }) => sum + free, 0n),
    members: freestFirst(members),
  }));
  clusters.sort(
    (a, b) => compare(a.distance, b.distance) || compare(b.free, a.free) || compare(a.node ?? -1, b.node ?? -1),
  );
  if (policy === 'prefer-single-node') return clusters.map(({ members }) => members);
  return [...groupBy(clusters, ({ distance }) => distance).values()].map((equal) =>
    freestFirst(inTurn(equal.map(({ members }) => members))),
  );
}

/** Stable: equal ones keep their order. */
export function freestFirst<Item extends { readonly free: bigint }>(rooms: readonly Item[]): Item[] {
  return [...rooms].sort((a, b) => compare(b.free, a.free));
}

function distanceTo(node: number | null, topology: NumaTopology, near: readonly number[]): number {
  if (near.length === 0) return 0;
  if (node === null) return Number.POSITIVE_INFINITY;
  return Math.min(...near.map((each) => topology.distance(each, node)));
}

function inTurn<Item>(lists: ReadonlyArray<readonly Item[]>): Item[] {
  const longest = Math.max(0, ...lists.map(({ length }) => length));
  return Array.from({ length: longest }, (_, index) => lists.flatMap((list) => list.slice(index, index + 1))).flat();
}

function groupBy<Item, Key>(items: readonly Item[], keyOf: (item: Item) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) {
    const key = keyOf(item);
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return groups;
}

function compare<Value extends number | bigint>(left: Value, right: Value): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
