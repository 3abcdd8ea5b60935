import type { ResourceSlots } from '@backend.ai/core';
import type { AgentTable } from './agent-table.ts';
import type { Holding, Waiting } from './cluster.ts';
import { type Compare, comparatorOf, insideBand } from './order.ts';
import { preferredAgent, slotOrder } from './selection.ts';
import type { Kind, Shape } from './shape.ts';
import type { DenseSlots } from './slot-table.ts';
import type { ResourceGroup, SchedulingPolicy, SelectionStrategy } from './snapshot.ts';

/** A resource group, compiled. */
export interface Group {
  readonly name: string;
  /** Its round-robin index goes on; all else that changes makes another group. */
  options: ResourceGroup;
  readonly policy: SchedulingPolicy;
  readonly strategy: SelectionStrategy;
  /** Indices in the table, in order of their ids. */
  readonly agents: Int32Array;
  /** What its agents that are alive have together. */
  readonly capacity: ResourceSlots;
  readonly totals: Float64Array;
  /** Columns in the order in which agents are compared. */
  readonly columns: Int32Array;
  readonly prefers: (agent: number, other: number) => boolean;
  readonly kernelLimit: number;
  readonly kinds: Map<string, Kind>;
  /** Names of the sets of agents that kinds have. */
  readonly sets: Map<string, string>;
  readonly shapes: Map<string, Shape>;
  readonly compare: Compare;
  /** Among sessions that stand equally high. */
  readonly compareEquals: Compare;
  /** In order of `compare`. */
  readonly queue: Waiting[];
  /** Those in the queue that lost priority. */
  readonly lowered: Set<Waiting>;
  /** Those in the queue that are not plain: they may name moments. */
  readonly dated: Set<Waiting>;
  readonly holdings: Set<Holding>;
  /** What its sessions hold, by user. */
  readonly heldBy: Map<string, Float64Array>;
  count(user: string, total: DenseSlots, sign: 1 | -1): void;
}

export function groupOf(options: ResourceGroup, agents: Int32Array, table: AgentTable): Group {
  const { slots } = table;
  const { scheduler: policy = 'fifo', selection: strategy = 'dispersed' } = options;
  const names = new Set<string>();
  const capacity: Record<string, bigint> = {};
  for (const index of agents) {
    const agent = table.agents[index]!;
    for (const name of Object.keys(agent.capacity)) {
      names.add(name);
      if (agent.status === 'ALIVE') capacity[name] = (capacity[name] ?? 0n) + (agent.capacity[name] ?? 0n);
    }
  }
  const columns = Int32Array.from(slotOrder([...names], options.slotPriority), (name) => slots.column(name)!);
  const heldBy = new Map<string, Float64Array>();
  return {
    name: options.name,
    options,
    policy,
    strategy,
    agents,
    capacity,
    totals: Float64Array.from(slots.names, (name, column) => slots.offered(column, capacity[name] ?? 0n)),
    columns,
    prefers: preferredAgent(table, strategy, columns),
    kernelLimit: options.maxKernelsPerAgent ?? Number.POSITIVE_INFINITY,
    kinds: new Map(),
    sets: new Map(),
    shapes: new Map(),
    compare: comparatorOf(policy),
    compareEquals: insideBand[policy],
    queue: [],
    lowered: new Set(),
    dated: new Set(),
    holdings: new Set(),
    heldBy,
    count: (user, total, sign) => {
      const held = heldBy.get(user) ?? new Float64Array(slots.names.length);
      heldBy.set(user, held);
      for (let i = 0; i < total.columns.length; i++) held[total.columns[i]!]! += sign * total.amounts[i]!;
    },
  };
}

/** The largest share that a user holds of any slot of the group. */
export function dominantShare({ heldBy, totals }: Group, user: string): number {
  const held = heldBy.get(user);
  let most = 0;
  if (held) for (let i = 0; i < held.length; i++) if (totals[i]! > 0) most = Math.max(most, held[i]! / totals[i]!);
  return most;
}
