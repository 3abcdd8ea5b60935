import { agentFeatures, maxWarmSlots } from '@backend.ai/contract';
import { slotsFromTexts } from '@backend.ai/core';
import type { PoolAgent, PoolLimits, PoolSlot, WarmPool } from '@backend.ai/scheduler';
import type { AgentRecord } from '../../repositories/agents.ts';
import type { ImageRecord } from '../../repositories/images.ts';
import type { WarmPoolRecord, WarmSlotRecord } from '../../repositories/warm-pools.ts';
import { toAgentSnapshot } from '../agents/agent-snapshot.ts';
import { toWarmSlot, warmKey } from './warm-key.ts';

/** Warm pools, slots and agents as plans of them are made, and explanations of what is missing. */

export const poolLimits: PoolLimits = { slots: maxWarmSlots, starting: 4 };

export function keepsWarmSlots({ features }: AgentRecord): boolean {
  return features.includes(agentFeatures.warmSlots);
}

export function toPoolAgent(agent: AgentRecord): PoolAgent {
  return { ...toAgentSnapshot(agent), keepsWarmSlots: keepsWarmSlots(agent) };
}

/** @param image That a registry has. */
export function toPool(record: WarmPoolRecord, image: ImageRecord | undefined): WarmPool {
  const { id, resourceGroup, size, architecture, restrictsEgress, failing } = record;
  return {
    ...{ poolId: id, resourceGroup, size, architecture, restrictsEgress },
    image: record.image,
    ...(image ? { fetchable: true } : {}),
    slots: slotsFromTexts(record.slots),
    key: warmKey({
      ...record,
      imageDigest: image?.digest ?? null,
      imageManifestDigest: image?.manifestDigest ?? null,
    }),
    failing: new Map(failing.map(({ agentId, failures, retryAt }) => [agentId, { failures, retryAt }])),
  };
}

/** The image of a pool, as registries have it; undefined: agents only. */
export function imageOf(pool: WarmPoolRecord, images: readonly ImageRecord[]): ImageRecord | undefined {
  return images.find(({ name, architecture }) => name === pool.image && architecture === pool.architecture);
}

export function toPoolSlot(slot: WarmSlotRecord): PoolSlot {
  const { poolId, agentId, isCurrent } = slot;
  const there = { ...toWarmSlot(slot), poolId, agentId };
  return isCurrent ? there : { ...there, key: 'of earlier rules' };
}
