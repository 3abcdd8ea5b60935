import type { CreateStep } from '../../backend.ts';
import type { SaveFacts } from '../draft.ts';

/** From here on a restarted agent knows of the kernel. They are written before anything is started. */
export function writeFactsStep(save: SaveFacts): CreateStep {
  return {
    name: 'write-facts',
    run: () => save('preparing'),
    // They go with the folder, last of all: an agent that dies while it clears up finds what is left by them.
    undo() {},
  };
}
