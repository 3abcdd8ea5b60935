import type { CreateStep } from '../../backend.ts';
import { factsOf, type KernelDraft, type ProcessContext } from '../draft.ts';
import { machineBootId } from '../proc.ts';
import { writeFacts } from '../scratch.ts';

/** From here on a restarted agent knows of the kernel. They are written before anything is started. */
export function writeFactsStep(draft: KernelDraft, context: ProcessContext): CreateStep {
  return {
    name: 'write-facts',
    run: () => writeFacts(draft.paths, factsOf(draft, context, machineBootId(), 'preparing')),
    // They go with the folder, last of all: an agent that dies while it clears up finds what is left by them.
    undo() {},
  };
}
