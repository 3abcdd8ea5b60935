import type { ResourceSlots } from '@backend.ai/core';
import type { CreateStep } from '../../backends/backend.ts';
import type { SlotLedger } from '../../resources/slot-ledger.ts';

/** The kernel's share in the books of the agent. It runs while the order is accepted, so that a refusal is an answer. */
export function reserveResourcesStep(ledger: SlotLedger, kernelId: string, slots: ResourceSlots): CreateStep {
  return {
    name: 'reserve-resources',
    run: () => ledger.reserve(kernelId, slots),
    undo: () => ledger.release(kernelId),
  };
}
