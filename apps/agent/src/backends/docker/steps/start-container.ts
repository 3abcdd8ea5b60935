import { AppError, hasCode } from '@backend.ai/core';
import { preopenServices } from '../../../services/service-ports.ts';
import type { CreateStep } from '../../backend.ts';
import { containerCgroups } from '../container-cgroups.ts';
import { DockerKernel } from '../docker-kernel.ts';
import type { DockerContext, DockerDraft } from '../draft.ts';
import type { ContainerInfo } from '../engine.ts';

/** Starts the container with the runner in it. When it is undone, nothing of the kernel runs any more. */
export function startContainerStep(draft: DockerDraft, context: DockerContext): CreateStep {
  const { engine, traits, networks } = context;
  const { spec, network } = draft;
  return {
    name: 'start-container',
    async run(signal) {
      const { containerId } = draft;
      if (containerId === null) throw new AppError('internal', 'The container is started before it was made.');
      try {
        await engine.startContainer(containerId, signal);
      } catch (cause) {
        if (!hasCode(cause, 'engine-failed')) throw cause;
        throw new AppError('kernel-start-failed', 'The container of the kernel could not be started.', { cause });
      }
      // The way to the agent, and beyond. Of several networks that a container has at its start the engine joins any first,
      // and its own name means its address in the first.
      if (spec.cluster?.network) await engine.connectNetwork(networks.nameOf(network), containerId, signal);
      const info = await engine.inspectContainer(containerId);
      if (!info) throw new AppError('kernel-start-failed', 'The container of the kernel has vanished.');
      if (!traits.makesBridgesAhead && draft.subnet) networks.requireMadeHere(draft.subnet);
      draft.container = info;
      draft.kernel = kernelOf(draft, context, info);
    },
    async undo() {
      draft.keepHome ||= draft.kernel?.stopReason === 'restart-requested';
      draft.kernel?.close();
      if (draft.containerId !== null) await engine.killContainer(draft.containerId);
      draft.kernel = null;
    },
  };
}

/** A kernel whose container has been started. */
export function kernelOf(
  draft: DockerDraft,
  { engine, traits, networks, installed, clock, logger }: DockerContext,
  info: ContainerInfo,
): DockerKernel {
  const { spec, paths, isolation, uid, services, network } = draft;
  const endpoint = info.NetworkSettings.Networks[networks.nameOf(network)];
  return new DockerKernel({
    ...{ paths, isolation, uid, engine, traits, clock },
    services: [...services, ...preopenServices(spec)],
    cgroups: info.State.Running ? containerCgroups(info.State.Pid) : [],
    paused: info.State.Paused,
    containerId: info.Id,
    onImage: () => installed.hint(),
    pid: info.State.Running ? info.State.Pid : null,
    address: endpoint?.IPAddress || null,
    logger: logger.with({ kernel_id: spec.kernelId }),
  });
}
