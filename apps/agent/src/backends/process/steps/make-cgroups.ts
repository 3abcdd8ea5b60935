import { AppError, delay } from '@backend.ai/core';
import { cgroupPaths, makeCgroups, removeCgroups } from '../../../resources/cgroups.ts';
import type { CreateStep } from '../../backend.ts';
import type { KernelDraft, ProcessContext } from '../draft.ts';

/** Limits of memory, processes and processor time, as far as the machine lets us set them. */
export function makeCgroupsStep(draft: KernelDraft, context: ProcessContext): CreateStep {
  const { cgroups, processLimit, clock } = context;
  return {
    name: 'make-cgroups',
    run() {
      if (!cgroups) return;
      const { kernelId } = draft.spec;
      draft.cgroups = cgroupPaths(cgroups, kernelId);
      makeCgroups(cgroups, kernelId, {
        memoryBytes: memoryBytesOf(draft),
        cpus: Number(draft.slots.cpu ?? 1000n) / 1000,
        processes: processLimit,
      });
    },
    async undo() {
      // The last process leaves its group a moment after it is gone for everybody else.
      for (let tries = 0; !removeCgroups(draft.cgroups); tries++) {
        if (tries > 200) {
          throw new AppError('internal', 'The control groups of a kernel cannot be removed.', {
            detail: { cgroups: draft.cgroups },
          });
        }
        await delay(clock, Math.min(50, tries));
      }
      draft.cgroups = [];
    },
  };
}

export function memoryBytesOf(draft: Pick<KernelDraft, 'slots'>): number {
  return Number((draft.slots.mem ?? 0n) / 1000n);
}
