import type { ServicePort } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { sshdProgram, sshdService } from '../../../services/sshd.ts';
import type { CreateStep } from '../../backend.ts';
import { userInside } from '../../scratch/draft.ts';
import { clusterAddresses } from '../cluster-addresses.ts';
import { containerOptions, containerResources } from '../container-options.ts';
import type { DockerContext, DockerDraft } from '../draft.ts';
import type { Engine } from '../engine.ts';
import { interpreterPaths, type KernelImage } from '../kernel-image.ts';
import { kernelLabels, labels, slotLabels } from '../labels.ts';

/** The container, not started yet. Its undo goes by the name: an engine that was too slow to answer may have made it. */
export function createContainerStep(draft: DockerDraft, context: DockerContext): CreateStep {
  const { engine, traits, owner, networks, runnerFolder, limits, processLimit, offers } = context;
  const { readOnlyRoot, shiftsUsers, knowsIPv6 } = context;
  const { spec, paths, slots, network, warm, containerName: name } = draft;
  return {
    name: 'create-container',
    async run(signal) {
      const { image, subnet } = draft;
      if (!image || !subnet) throw new AppError('internal', 'The container is made before its image and network.');
      const carried = image.language === 'python' ? null : await context.carried();
      const options = containerOptions({
        ...{ spec, image, name, paths, runnerFolder, carried, readOnlyRoot, shiftsUsers, knowsIPv6 },
        limits: traits.fitsProcesses ? { ...limits, processes: null } : limits,
        labels: warm ? slotLabels(owner, spec.kernelId) : kernelLabels(owner, spec),
        isWarm: warm !== null,
        user: userInside(draft),
        network: networks.nameOf(network),
        addresses: traits.hasNameService ? null : clusterAddresses(spec, subnet),
        resources: containerResources(spec, image, slots, draft.resources, processLimit),
      });
      const making = async (): Promise<void> => {
        draft.containerId = await engine.createContainer(options, signal);
        draft.services = offers.get(image.id) ?? (await offerOf(engine, draft.containerId, image));
        offers.set(image.id, draft.services);
      };
      // Nothing runs in it before the rules of its network are in place. Both have ended before one is undone.
      const [made, guarded] = await Promise.allSettled([making(), networks.guardFor(network)]);
      for (const outcome of [made, guarded]) if (outcome.status === 'rejected') throw outcome.reason;
    },
    async undo() {
      const found = await engine.inspectContainer(name);
      // Another agent of this engine may have one of that name: for it ours could not be made.
      if (found?.Config.Labels[labels.installation] === owner.installationId) await engine.removeContainer(found.Id);
      draft.containerId = null;
    },
  };
}

/** What its image says that it offers, and what is known of a program that it has. */
async function offerOf(engine: Engine, containerId: string, image: KernelImage): Promise<readonly ServicePort[]> {
  await ensureInterpreter(engine, containerId, image);
  const isTaken = image.services.some(({ name }) => name === sshdService.name);
  return isTaken || !(await engine.hasFile(containerId, sshdProgram))
    ? image.services
    : [...image.services, sshdService];
}

/** Said before the start: the engine would only tell that something could not be executed. */
async function ensureInterpreter(engine: Engine, containerId: string, image: KernelImage): Promise<void> {
  for (const path of interpreterPaths(image)) {
    if (await engine.hasFile(containerId, path)) return;
  }
  throw new AppError('unsupported-feature', `The image ${image.name} has no ${image.interpreter}.`, {
    hint: 'Sessions of Python need Python 3.8 or later in their image, those of Node.js node, all others a shell.',
    data: { image: image.name, interpreter: image.interpreter },
  });
}
