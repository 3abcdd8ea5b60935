import type { CreateStep } from '../../backend.ts';
import type { DockerContext, DockerDraft } from '../draft.ts';

/** The image is there, and what it says of itself is known. */
export function ensureImageStep(draft: DockerDraft, { images }: DockerContext): CreateStep {
  return {
    name: 'ensure-image',
    async run(signal) {
      draft.image = await images.ensure(draft.spec, signal);
    },
    // Images stay for the next kernel.
    undo() {},
  };
}
