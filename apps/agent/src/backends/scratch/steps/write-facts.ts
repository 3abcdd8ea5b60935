import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { resourceText } from '../../../resources/kernel-resources.ts';
import type { CreateStep } from '../../backend.ts';
import type { SaveFacts, ScratchDraft } from '../draft.ts';

/**
 * From here on a restarted agent knows of the kernel. They are written before anything is started. What the kernel may
 * know of its resources is told to it at the same time.
 */
export function writeFactsStep({ spec, paths, resources }: ScratchDraft, save: SaveFacts): CreateStep {
  return {
    name: 'write-facts',
    run() {
      writeFileSync(join(paths.config, 'resource.txt'), resourceText(spec.slots, resources), { mode: 0o644 });
      save('preparing');
    },
    // They go with the folder, last of all: an agent that dies while it clears up finds what is left by them.
    undo() {},
  };
}
