import type { StepTiming } from '@backend.ai/contract';
import type { Clock } from '@backend.ai/core';
import type { Accelerators } from '../accelerators/accelerators.ts';
import type { Backend, CreateStep, KernelPlan } from '../backends/backend.ts';
import type { AllocationLedger } from '../resources/allocation-ledger.ts';
import type { KernelResources } from '../resources/kernel-resources.ts';
import { runSteps, type StepFailure, type StepFaults, type StepRunOptions, type StepsRun } from './create-steps.ts';
import type { Kernel } from './kernel.ts';
import { attachDevicesStep } from './steps/attach-devices.ts';
import { reservedResourcesStep } from './steps/reserve-resources.ts';

export interface PlanParts {
  readonly backend: Backend;
  readonly ledger: AllocationLedger;
  readonly accelerators: Accelerators;
}

/** What comes before the steps of any backend: giving back what was reserved, as the last of the undoing, and devices. */
export function withResources<Plan extends Pick<KernelPlan, 'steps'>>(
  plan: Plan,
  kernelId: string,
  resources: KernelResources,
  parts: PlanParts,
): Plan {
  const { ledger, accelerators } = parts;
  const attach: CreateStep[] = accelerators.concerns(resources.allocation)
    ? [attachDevicesStep(resources, kernelId, parts)]
    : [];
  return { ...plan, steps: [reservedResourcesStep(ledger, kernelId), ...attach, ...plan.steps] };
}

export interface StartOptions extends Pick<StepRunOptions, 'beforeStep' | 'onNews' | 'rank'> {
  readonly clock: Clock;
  readonly faults?: StepFaults | undefined;
}

/** Runs the steps of a kernel's plan, until one fails or nobody wants the kernel any more. */
export function startPlan(kernel: Kernel, { faults, beforeStep, ...others }: StartOptions): Promise<StepsRun> {
  const { kernelId } = kernel.spec;
  return runSteps(kernel.plan.steps, {
    ...others,
    signal: kernel.abort.signal,
    beforeStep: (step) => {
      faults?.before?.(step, kernelId);
      beforeStep?.(step);
    },
    afterStep: (step) => faults?.after?.(step, kernelId),
  });
}

/** How the start of a kernel ended. Nothing has been undone. */
export type StartOutcome =
  | { readonly kind: 'started'; readonly timings: readonly StepTiming[] }
  /** Nobody wants it any more; `complete`: it came to run nevertheless. */
  | { readonly kind: 'unwanted'; readonly complete: boolean }
  | { readonly kind: 'failed'; readonly failure: StepFailure };

/** To be asked by whoever acts on it at once: a moment later the kernel may be unwanted. */
export function startOutcome(kernel: Kernel, { timings, failure }: StepsRun): StartOutcome {
  if (kernel.isUnwanted) return { kind: 'unwanted', complete: failure === null };
  return failure ? { kind: 'failed', failure } : { kind: 'started', timings };
}
