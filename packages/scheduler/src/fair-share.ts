import type { ResourceSlots } from '@backend.ai/core';
import type { FairShareSpec } from './snapshot.ts';

/** What a resource group has when nobody said otherwise. */
export const fairShareDefaults: Required<FairShareSpec> = {
  halfLifeDays: 7,
  lookbackDays: 28,
  defaultWeight: 1,
  slotWeights: { cpu: 1, mem: 0.001, 'cuda.device': 10, 'cuda.shares': 10 },
};

/** Usage of one day. */
export interface UsageBucket {
  /** Full days before now: 0 is today. */
  readonly daysAgo: number;
  /** Amounts times seconds: what was held, summed once, whatever the number of kernels. */
  readonly usage: ResourceSlots;
}

/** Usage of the window, each day counting half of that a half life later. */
export function decayedUsage(buckets: readonly UsageBucket[], spec: FairShareSpec = {}): ResourceSlots {
  const { halfLifeDays, lookbackDays } = { ...fairShareDefaults, ...spec };
  const sum = new Map<string, bigint>();
  for (const { daysAgo, usage } of buckets) {
    if (daysAgo < 0 || daysAgo >= lookbackDays) continue;
    // In billionths, so that sums of large amounts stay exact.
    const factor = BigInt(Math.round(2 ** (-daysAgo / halfLifeDays) * 1e9));
    for (const [slot, amount] of Object.entries(usage)) sum.set(slot, (sum.get(slot) ?? 0n) + amount * factor);
  }
  return Object.fromEntries([...sum].sort().map(([slot, amount]) => [slot, amount / 1_000_000_000n]));
}

/**
 * Mean over the slots of a group of the share of its capacity in the window that was used, weighted by slot. Slots that the
 * group does not have do not count.
 * @param capacity What the group's agents have together.
 */
export function normalisedUsage(usage: ResourceSlots, capacity: ResourceSlots, spec: FairShareSpec = {}): number {
  const { lookbackDays, slotWeights } = { ...fairShareDefaults, ...spec };
  const seconds = lookbackDays * 86_400;
  let sum = 0;
  let weights = 0;
  for (const [slot, amount] of Object.entries(capacity).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (amount <= 0n) continue;
    const weight = slotWeights[slot] ?? 1;
    const used = Object.hasOwn(usage, slot) ? (usage[slot] ?? 0n) : 0n;
    sum += (Number(used) / (Number(amount) * seconds)) * weight;
    weights += weight;
  }
  return weights === 0 ? 0 : sum / weights;
}

/** 2^(−usage / weight), between 2⁻¹⁰ and 1: higher comes first. */
export function fairShareFactor(normalised: number, weight = fairShareDefaults.defaultWeight): number {
  const exponent = weight > 0 ? -normalised / weight : Number.NEGATIVE_INFINITY;
  return 2 ** Math.max(-10, Math.min(10, exponent));
}
