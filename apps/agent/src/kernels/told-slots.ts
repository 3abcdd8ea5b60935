import type { WarmSlotSpec } from '@backend.ai/contract';

/** What an agent is told of its slots. */
export interface ToldSlots {
  /** All that there are to be. */
  readonly wished: readonly WarmSlotSpec[];
  /** Ids of kernels whose orders are under way, read after `wished`: the slots of these are somebody's. */
  readonly claimed: readonly string[];
}

/** What there is when it is told. */
export interface PresentSlots {
  readonly slots: readonly string[];
  /** Whether a kernel of this id is there, has been, or is still being removed. */
  readonly isTaken: (slotId: string) => boolean;
}

/**
 * Slots to be given up and to be begun. One that a session has claimed is not wished any more and stays until its order
 * comes: the order, or the end of the session, settles what becomes of it.
 */
export function compareSlots(
  { wished, claimed }: ToldSlots,
  { slots, isTaken }: PresentSlots,
): { readonly drop: string[]; readonly begin: WarmSlotSpec[] } {
  const kept = new Set([...wished.map(({ slotId }) => slotId), ...claimed]);
  const present = new Set(slots);
  // What was read as wished may be claimed since.
  const settled = new Set(claimed);
  return {
    drop: slots.filter((slotId) => !kept.has(slotId)),
    begin: wished.filter(({ slotId }) => !present.has(slotId) && !settled.has(slotId) && !isTaken(slotId)),
  };
}
