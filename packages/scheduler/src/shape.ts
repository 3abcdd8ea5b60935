import type { AgentTable } from './agent-table.ts';
import type { Tournament } from './candidates.ts';
import type { Group } from './group.ts';
import type { WaitingReason } from './plan.ts';
import type { DenseSlots } from './slot-table.ts';
import { type AgentSnapshot, canStartImage, imageKey, type KernelRequest } from './snapshot.ts';

/** What has to hold of an agent whatever it has free: open, of the architecture, with the images, named. */
export interface Kind {
  /** Kinds with the same agents have the same. */
  readonly set: string;
  /** Agents that can take it, in order of their ids. */
  readonly agents: Int32Array;
  /** Where an agent stands in `agents`, or −1. */
  readonly positions: Int32Array;
  /** The same by the network on which kernels reach each other, each in order of their ids. */
  readonly networks: ReadonlyMap<string, Int32Array>;
  /** Why `agents` is empty. */
  readonly obstacle: WaitingReason | undefined;
}

/** A request as many sessions make it. */
export interface Shape {
  readonly kind: Kind;
  readonly slots: DenseSlots;
  /** Kernels that it adds to an agent. */
  readonly kernels: number;
  /** Waiting sessions with it. */
  uses: number;
  /** Of the present pass. */
  tournament: Tournament | undefined;
  /** Why even an empty agent is too small; null: it is not. */
  exceeds: WaitingReason | null | undefined;
  /** Of those who ask for nothing else, by owner. */
  readonly askers: Map<string, Alike>;
}

/** Sessions of one owner that ask for the same: what is found of one holds for the others while nothing moves. */
export interface Alike {
  /** Why the one before had to wait. */
  reason: WaitingReason | undefined;
  /** What a pass had decided by then: while it is that of the pass, the reason holds. */
  since: object | undefined;
}

export function kindOf(
  group: Group,
  table: AgentTable,
  kernels: readonly KernelRequest[],
  designated: readonly string[] | undefined,
): Kind {
  const images = new Map(kernels.map((kernel) => [keyOf(kernel), kernel]));
  const wanted = [...images].sort(([a], [b]) => (a < b ? -1 : 1));
  const key = `${wanted.map(([name]) => name).join('\n')}\n\n${designated?.join('\n') ?? ''}`;
  const known = group.kinds.get(key);
  if (known) return known;
  const found = suitable(group, table, wanted, designated);
  const members = found.obstacle ? key : found.agents.join();
  const set = group.sets.get(members) ?? String(group.sets.size);
  group.sets.set(members, set);
  const kind = { set, ...found };
  group.kinds.set(key, kind);
  return kind;
}

function keyOf({ image, architecture, fetchable }: KernelRequest): string {
  return `${imageKey(image, architecture)}${fetchable ? ' fetchable' : ''}`;
}

/**
 * The filters, in their order; the first that leaves nothing is the obstacle.
 * @param wanted Keys of images, sorted, each with a kernel that wants it.
 */
function suitable(
  group: Group,
  table: AgentTable,
  wanted: ReadonlyArray<readonly [key: string, kernel: KernelRequest]>,
  designated: readonly string[] | undefined,
): Omit<Kind, 'set'> {
  const { name: resourceGroup } = group;
  let left = Array.from(group.agents);
  let obstacle: WaitingReason | undefined;
  const filter = (
    passes: (agent: AgentSnapshot) => boolean,
    reason: (before: AgentSnapshot[]) => WaitingReason,
  ): void => {
    if (obstacle) return;
    const before = left;
    left = left.filter((agent) => passes(table.agents[agent]!));
    if (left.length === 0) obstacle = reason(before.map((agent) => table.agents[agent]!));
  };
  filter(
    (agent) => agent.status !== 'TERMINATED',
    () => ({ code: 'no-agent', data: { resourceGroup } }),
  );
  filter(
    (agent) => agent.status === 'ALIVE' && agent.schedulable,
    () => ({ code: 'no-agent-alive', data: { resourceGroup } }),
  );
  if (group.options.restrictsEgress) {
    filter(
      (agent) => agent.enforcesEgress ?? false,
      () => ({ code: 'no-agent-enforces-egress', data: { resourceGroup } }),
    );
  }
  filter(
    (agent) => wanted.every(([, kernel]) => kernel.architecture === agent.architecture),
    (agents) => {
      const missing = wanted.find(([, kernel]) => agents.every((agent) => agent.architecture !== kernel.architecture));
      const { architecture } = (missing ?? wanted[0]!)[1];
      return { code: 'no-agent-of-architecture', data: { architecture } };
    },
  );
  if (designated) {
    filter(
      (agent) => designated.includes(agent.id),
      () => ({ code: 'designated-agent-unavailable', data: { agents: [...designated].sort() } }),
    );
  }
  filter(
    (agent) => wanted.every(([, kernel]) => canStartImage(agent, kernel)),
    (agents) => {
      const missing = wanted.find(([, kernel]) => agents.every((agent) => !canStartImage(agent, kernel)));
      const { image, architecture } = (missing ?? wanted[0]!)[1];
      return { code: 'no-agent-with-image', data: { image, architecture } };
    },
  );
  const positions = new Int32Array(table.agents.length).fill(-1);
  left.forEach((agent, position) => {
    positions[agent] = position;
  });
  const agents = Int32Array.from(left);
  return { agents, positions, networks: byNetwork(agents, table), obstacle };
}

/** What stands for the network of an agent. */
export function networkOf(table: AgentTable, agent: number): string {
  return table.agents[agent]!.clusterNetwork ?? '';
}

function byNetwork(agents: Int32Array, table: AgentTable): Map<string, Int32Array> {
  const members = new Map<string, number[]>();
  for (const agent of agents) {
    const network = networkOf(table, agent);
    const others = members.get(network);
    if (others) others.push(agent);
    else members.set(network, [agent]);
  }
  return new Map([...members].map(([network, all]) => [network, Int32Array.from(all)]));
}

/** The agents that can take it; with a network only those in it. */
export function agentsOf({ agents, networks }: Kind, network: string | undefined): Int32Array {
  return network === undefined ? agents : (networks.get(network) ?? none);
}

const none = new Int32Array(0);
