import { AppError } from '@backend.ai/core';
import type { CreateStep } from '../../backend.ts';
import { userInside } from '../../scratch/draft.ts';
import { containerOptions, containerResources } from '../container-options.ts';
import type { DockerContext, DockerDraft } from '../draft.ts';
import type { Engine } from '../engine.ts';
import { interpreterPaths, type KernelImage } from '../kernel-image.ts';
import { kernelLabels, labels } from '../labels.ts';

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
      await ensureInterpreter(engine, draft.containerId, image);
    },
    async undo() {
      const found = await engine.inspectContainer(name);
      // Another agent of this engine may have one of that name: for it ours could not be made.
      if (found?.Config.Labels[labels.installation] === owner.installationId) await engine.removeContainer(found.Id);
      draft.containerId = null;
    },
  };
}

/** Said before the start: the engine would only tell that something could not be executed. */
async function ensureInterpreter(engine: Engine, containerId: string, image: KernelImage): Promise<void> {
  for (const path of interpreterPaths(image)) {
    if (await engine.hasFile(containerId, path)) return;
  }
  throw new AppError('unsupported-feature', `The image ${image.name} has no ${image.interpreter}.`, {
    hint: 'Kernels are driven by Python 3, those of Node.js by node: put it into the image, or take another one.',
    data: { image: image.name, interpreter: image.interpreter },
  });
}
