import { addSlots, fits, type ResourceSlots, subtractSlots } from '@backend.ai/core';
import { type AgentSnapshot, canStartImage, type KernelRequest, type WarmSlot } from './snapshot.ts';

/** How many slots a resource group is to have ready. */
export interface WarmPool extends Pick<KernelRequest, 'image' | 'architecture' | 'fetchable' | 'slots'> {
  readonly poolId: string;
  readonly resourceGroup: string;
  /** Of slots that are made now; those with another one are of no use any more. */
  readonly key: string;
  readonly size: number;
  /** Nothing is made before this moment, in milliseconds since the epoch. */
  readonly retryAt?: number;
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

/**
 * Which warm slots are to be made and which have to go: pools in the order of their ids, each slot on the agent of its group
 * that has the fewest of the pool and room beside all that it holds. Pure, and carried out twice it changes nothing more.
 */
export function planWarmPools(
  pools: readonly WarmPool[],
  agents: readonly PoolAgent[],
  slots: readonly PoolSlot[],
  now: number,
): PoolPlan {
  const byId = new Map(agents.map((agent) => [agent.id, agent]));
  const kept: PoolSlot[] = [];
  const remove: string[] = [];
  const create: Array<{ poolId: string; agentId: string }> = [];
  const held = new Map<string, ResourceSlots>();
  const hold = (agentId: string, amounts: ResourceSlots): void => {
    held.set(agentId, addSlots(held.get(agentId) ?? {}, amounts));
  };
  const ordered = [...pools].sort((a, b) => (a.poolId < b.poolId ? -1 : 1));
  for (const pool of ordered) {
    const own = slots.filter(({ poolId }) => poolId === pool.poolId).sort(readyFirst);
    let count = 0;
    for (const slot of own) {
      const agent = byId.get(slot.agentId);
      if (count === pool.size || !agent || slot.key !== pool.key || !mayKeep(agent, pool)) continue;
      // An agent may have less than it had, or others may hold more.
      if (!fits(slot.slots, roomOf(agent, held.get(agent.id)))) continue;
      hold(agent.id, slot.slots);
      kept.push(slot);
      count += 1;
    }
  }
  const staying = new Set(kept.map(({ slotId }) => slotId));
  for (const { slotId } of slots) if (!staying.has(slotId)) remove.push(slotId);
  for (const pool of ordered) {
    const counts = new Map<string, number>();
    const own = kept.filter(({ poolId }) => poolId === pool.poolId);
    for (const { agentId } of own) counts.set(agentId, (counts.get(agentId) ?? 0) + 1);
    if (pool.retryAt !== undefined && pool.retryAt > now) continue;
    for (let missing = pool.size - own.length; missing > 0; missing--) {
      const [best] = agents
        .filter((agent) => mayKeep(agent, pool) && fits(pool.slots, roomOf(agent, held.get(agent.id))))
        .sort((a, b) => (counts.get(a.id) ?? 0) - (counts.get(b.id) ?? 0) || (a.id < b.id ? -1 : 1));
      if (!best) break;
      create.push({ poolId: pool.poolId, agentId: best.id });
      counts.set(best.id, (counts.get(best.id) ?? 0) + 1);
      hold(best.id, pool.slots);
    }
  }
  return { create, remove };
}

function readyFirst(a: PoolSlot, b: PoolSlot): number {
  return Number(b.ready) - Number(a.ready) || (a.slotId < b.slotId ? -1 : 1);
}

function mayKeep(agent: PoolAgent, pool: WarmPool): boolean {
  return (
    agent.keepsWarmSlots &&
    agent.status === 'ALIVE' &&
    agent.schedulable &&
    agent.resourceGroup === pool.resourceGroup &&
    agent.architecture === pool.architecture &&
    canStartImage(agent, pool)
  );
}

function roomOf(agent: AgentSnapshot, warm: ResourceSlots = {}): ResourceSlots {
  return subtractSlots(subtractSlots(subtractSlots(agent.capacity, agent.used), agent.reserved ?? {}), warm);
}
