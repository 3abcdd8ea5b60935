import { addSlots, fits, type ResourceSlots, subtractSlots } from '@backend.ai/core';
import { type AgentSnapshot, canStartImage, type KernelRequest, type WarmSlot } from './snapshot.ts';

/** How many slots a resource group is to have ready. */
export interface WarmPool extends Pick<KernelRequest, 'image' | 'architecture' | 'fetchable' | 'slots'> {
  readonly poolId: string;
  readonly resourceGroup: string;
  /** Of slots that are made now; those with another one are of no use any more. */
  readonly key: string;
  readonly size: number;
  /** Kernels of the group may not call everything: its agents have to enforce that. */
  readonly restrictsEgress?: boolean;
  /** Agents on which slots of it failed one after the other, by id. */
  readonly failing?: ReadonlyMap<string, PoolFailures>;
}

export interface PoolFailures {
  readonly failures: number;
  /** Nothing is made there before this moment, in milliseconds since the epoch. */
  readonly retryAt: number;
}

export interface PoolSlot extends WarmSlot {
  readonly poolId: string;
  readonly agentId: string;
}

export interface PoolAgent extends AgentSnapshot {
  /** Whether it can keep slots at all. */
  readonly keepsWarmSlots: boolean;
}

export interface PoolPlan {
  readonly create: ReadonlyArray<{ readonly poolId: string; readonly agentId: string }>;
  /** Ids. */
  readonly remove: readonly string[];
}

/** Of one agent, over all pools. */
export interface PoolLimits {
  /** Slots that it may have. */
  readonly slots: number;
  /** Slots that are started at the same time: each is a container, and those of sessions come between them. */
  readonly starting: number;
}

/** Why an agent gets no slot, or no more of them. `closed`: not alive, or not open to new sessions. */
export type PoolObstacle =
  | 'closed'
  | 'other-architecture'
  | 'keeps-no-slots'
  | 'egress-policy'
  | 'image-missing'
  | 'failing'
  | 'no-room'
  | 'too-many-slots'
  | 'starting-others';

/** What agents hold for slots while a plan is made. */
class Holdings {
  readonly #limits: PoolLimits;
  readonly #now: number;
  readonly #held = new Map<string, { amounts: ResourceSlots; slots: number; starting: number }>();

  constructor(limits: PoolLimits, now: number) {
    this.#limits = limits;
    this.#now = now;
  }

  hold(agentId: string, amounts: ResourceSlots, ready: boolean): void {
    const before = this.#held.get(agentId) ?? { amounts: {}, slots: 0, starting: 0 };
    this.#held.set(agentId, {
      amounts: addSlots(before.amounts, amounts),
      slots: before.slots + 1,
      starting: before.starting + Number(!ready),
    });
  }

  /** Whether one slot more may be there. */
  takes(agent: PoolAgent, amounts: ResourceSlots): boolean {
    const { slots = 0 } = this.#held.get(agent.id) ?? {};
    return slots < this.#limits.slots && fits(amounts, this.#roomOf(agent));
  }

  /** What keeps an agent of its group from starting a slot of the pool now; undefined: nothing. */
  obstacle(agent: PoolAgent, pool: WarmPool): PoolObstacle | undefined {
    const { slots = 0, starting = 0 } = this.#held.get(agent.id) ?? {};
    const unfit = unfitness(agent, pool);
    if (unfit) return unfit;
    if ((pool.failing?.get(agent.id)?.retryAt ?? 0) > this.#now) return 'failing';
    if (slots >= this.#limits.slots) return 'too-many-slots';
    if (!fits(pool.slots, this.#roomOf(agent))) return 'no-room';
    return starting >= this.#limits.starting ? 'starting-others' : undefined;
  }

  #roomOf(agent: PoolAgent): ResourceSlots {
    const free = subtractSlots(subtractSlots(agent.capacity, agent.used), agent.reserved ?? {});
    return subtractSlots(free, this.#held.get(agent.id)?.amounts ?? {});
  }
}

/**
 * Which warm slots are to be made and which have to go: pools in the order of their ids, each slot on an agent of its group
 * that has room beside all that it holds, one without failures if there is one, and of these the one with the fewest of the
 * pool. Pure, and carried out twice it changes nothing more.
 */
export function planWarmPools(
  pools: readonly WarmPool[],
  agents: readonly PoolAgent[],
  slots: readonly PoolSlot[],
  now: number,
  limits: PoolLimits,
): PoolPlan {
  const byId = new Map(agents.map((agent) => [agent.id, agent]));
  const kept: PoolSlot[] = [];
  const create: Array<{ poolId: string; agentId: string }> = [];
  const holdings = new Holdings(limits, now);
  const ordered = [...pools].sort((a, b) => (a.poolId < b.poolId ? -1 : 1));
  for (const pool of ordered) {
    const own = slots.filter(({ poolId }) => poolId === pool.poolId).sort(readyFirst);
    let count = 0;
    for (const slot of own) {
      const agent = byId.get(slot.agentId);
      if (count === pool.size || !agent || slot.key !== pool.key) continue;
      if (agent.resourceGroup !== pool.resourceGroup || unfitness(agent, pool)) continue;
      // An agent may have less than it had, or others may hold more.
      if (!holdings.takes(agent, slot.slots)) continue;
      holdings.hold(agent.id, slot.slots, slot.ready);
      kept.push(slot);
      count += 1;
    }
  }
  const staying = new Set(kept.map(({ slotId }) => slotId));
  const remove = slots.flatMap(({ slotId }) => (staying.has(slotId) ? [] : [slotId]));
  for (const pool of ordered) {
    const counts = new Map<string, number>();
    const own = kept.filter(({ poolId }) => poolId === pool.poolId);
    for (const { agentId } of own) counts.set(agentId, (counts.get(agentId) ?? 0) + 1);
    const failuresOf = ({ id }: PoolAgent): number => pool.failing?.get(id)?.failures ?? 0;
    const group = agents.filter(({ resourceGroup }) => resourceGroup === pool.resourceGroup);
    for (let missing = pool.size - own.length; missing > 0; missing--) {
      const [best] = group
        .filter((agent) => holdings.obstacle(agent, pool) === undefined)
        .sort(
          (a, b) =>
            failuresOf(a) - failuresOf(b) ||
            (counts.get(a.id) ?? 0) - (counts.get(b.id) ?? 0) ||
            (a.id < b.id ? -1 : 1),
        );
      if (!best) break;
      create.push({ poolId: pool.poolId, agentId: best.id });
      counts.set(best.id, (counts.get(best.id) ?? 0) + 1);
      holdings.hold(best.id, pool.slots, false);
    }
  }
  return { create, remove };
}

/**
 * Why a pool has fewer slots than it is to have: what keeps the agents of its group from starting one now, each with their
 * ids. Agents of which nothing is in the way are not among them. Without slots that lack nothing is said.
 */
export function explainPool(
  pool: WarmPool,
  agents: readonly PoolAgent[],
  slots: readonly PoolSlot[],
  now: number,
  limits: PoolLimits,
): ReadonlyMap<PoolObstacle, readonly string[]> {
  const found = new Map<PoolObstacle, string[]>();
  if (slots.filter(({ poolId }) => poolId === pool.poolId).length >= pool.size) return found;
  const holdings = new Holdings(limits, now);
  for (const slot of slots) holdings.hold(slot.agentId, slot.slots, slot.ready);
  for (const agent of agents) {
    if (agent.resourceGroup !== pool.resourceGroup) continue;
    const obstacle = holdings.obstacle(agent, pool);
    if (obstacle) found.set(obstacle, [...(found.get(obstacle) ?? []), agent.id]);
  }
  return found;
}

function readyFirst(a: PoolSlot, b: PoolSlot): number {
  return Number(b.ready) - Number(a.ready) || (a.slotId < b.slotId ? -1 : 1);
}

/** What keeps an agent from having slots of the pool at all. */
function unfitness(agent: PoolAgent, pool: WarmPool): PoolObstacle | undefined {
  if (agent.status !== 'ALIVE' || !agent.schedulable) return 'closed';
  if (agent.architecture !== pool.architecture) return 'other-architecture';
  if (!agent.keepsWarmSlots) return 'keeps-no-slots';
  if (pool.restrictsEgress && !agent.enforcesEgress) return 'egress-policy';
  return canStartImage(agent, pool) ? undefined : 'image-missing';
}
