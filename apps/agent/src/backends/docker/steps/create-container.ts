import { AppError } from '@backend.ai/core';
import type { CreateStep } from '../../backend.ts';
import { userInside } from '../../scratch/draft.ts';
import { containerOptions, containerResources } from '../container-options.ts';
import type { DockerContext, DockerDraft } from '../draft.ts';
import { kernelLabels } from '../labels.ts';

/** The container, not started yet. Its undo goes by the name: an engine that was too slow to answer may have made it. */
export function createContainerStep(draft: DockerDraft, context: DockerContext): CreateStep {
  const { engine, owner, networks, runnerFolder, openFiles, readOnlyRoot, shiftsUsers, processLimit } = context;
  const { spec, paths, slots, containerName: name } = draft;
  return {
    name: 'create-container',
    async run(signal) {
      const { image } = draft;
      if (!image) throw new AppError('internal', 'The container is made before its image is known.');
      const options = containerOptions({
        ...{ spec, image, name, paths, runnerFolder, openFiles, readOnlyRoot, shiftsUsers },
        labels: kernelLabels(owner, spec.kernelId, spec.sessionId),
        user: userInside(draft),
        network: networks.nameOf(spec.sessionId),
        resources: containerResources(spec, image, slots, draft.resources, processLimit),
      });
      draft.containerId = await engine.createContainer(options, signal);
    },
    async undo() {
      await engine.removeContainer(name);
      draft.containerId = null;
    },
  };
}
