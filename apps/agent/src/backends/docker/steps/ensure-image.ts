import type { CreateStep } from '../../backend.ts';
import type { DockerContext, DockerDraft } from '../draft.ts';
import { environmentFor, kernelImage } from '../kernel-image.ts';

/** The image is there, fetched if need be, and what it says of itself is known. */
export function ensureImageStep(draft: DockerDraft, { images, installed }: DockerContext): CreateStep {
  const { image: name, imageSource: source } = draft.spec;
  return {
    name: 'ensure-image',
    async run(signal, tell) {
      let fetched = false;
      const image = await images.ensure({ name, source }, signal, () => {
        fetched = true;
        tell('pulling');
      });
      draft.image = kernelImage(name, image);
      draft.services = draft.image.services;
      if (draft.warm) {
        draft.warm.environment = {
          image: environmentFor(draft.image, draft.spec.slots),
          devices: draft.resources.devices.environ,
        };
        draft.warm.imageId = draft.image.id;
      }
      if (fetched) installed.hint();
    },
    // Images stay for the next kernel.
    undo() {},
  };
}
