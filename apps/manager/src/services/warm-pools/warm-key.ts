import { slotsFromTexts, slotsToTexts } from '@backend.ai/core';
import type { WarmSlot } from '@backend.ai/scheduler';
import type { WarmSlotRecord } from '../../repositories/warm-pools.ts';

/** What a session and a warm slot must have in common, because it cannot be changed any more in a kernel that runs. */
export interface WarmKind {
  /** Canonical name. */
  readonly image: string;
  readonly architecture: string;
  /** Of its contents; null: whatever the agent has of that name. */
  readonly imageDigest: string | null;
  /** As its registry has it: what is fetched is named by this one. */
  readonly imageManifestDigest: string | null;
  readonly slots: Readonly<Record<string, string>>;
  /** Of /dev/shm, in bytes; null: what the backend gives. */
  readonly shmem: number | null;
}

/** Equal for what suits each other, and for nothing else. */
export function warmKey({ image, architecture, imageDigest, imageManifestDigest, slots, shmem }: WarmKind): string {
  const amounts = Object.entries(slotsToTexts(slotsFromTexts(slots))).filter(([, amount]) => Number(amount) > 0);
  amounts.sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([image, architecture, imageDigest, imageManifestDigest, amounts, shmem]);
}

/** A slot as the scheduler sees it. */
export function toWarmSlot(record: WarmSlotRecord): WarmSlot {
  const { id, status, slots, isCurrent } = record;
  return { slotId: id, key: warmKey(record), slots: slotsFromTexts(slots), ready: status === 'ready' && isCurrent };
}
