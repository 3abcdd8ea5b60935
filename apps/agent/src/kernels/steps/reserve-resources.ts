import type { CreateStep } from '../../backends/backend.ts';
import type { AllocationLedger } from '../../resources/allocation-ledger.ts';

export const reserveResources = 'reserve-resources';

/**
 * Whatever a kernel was given when its order was taken. Too little of something is an answer, so it happens before all
 * steps.
 */
export function reservedResourcesStep(ledger: AllocationLedger, kernelId: string): CreateStep {
  return {
    name: reserveResources,
    run() {},
    undo: () => ledger.release(kernelId),
  };
}
