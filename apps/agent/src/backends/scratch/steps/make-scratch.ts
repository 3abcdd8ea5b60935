import type { CreateStep } from '../../backend.ts';
import type { ScratchDraft } from '../draft.ts';
import { makeScratch, removeScratch } from '../scratch.ts';

/** The kernel's folder. It is removed last, and with it every trace of the kernel. */
export function makeScratchStep(draft: ScratchDraft): CreateStep {
  return {
    name: 'make-scratch',
    run: () => makeScratch(draft.paths, draft.isolation.sandbox === 'none'),
    undo: () => removeScratch(draft.paths),
  };
}
