import { dirname } from 'node:path';
import { AppError } from '@backend.ai/core';
import { entryFiles } from '../../../resources/cgroups.ts';
import { identify } from '../../../resources/processes.ts';
import { runnerCommand } from '../../../runner/index.ts';
import { preopenServices } from '../../../services/service-ports.ts';
import type { CreateStep } from '../../backend.ts';
import { needsHosts } from '../../scratch/cluster-hosts.ts';
import { userInside } from '../../scratch/draft.ts';
import { kernelEnvironment } from '../../scratch/kernel-environment.ts';
import { type KernelDraft, type ProcessContext, saveFacts } from '../draft.ts';
import { endProcesses } from '../end-processes.ts';
import { findInit } from '../find-init.ts';
import { labelOf } from '../launcher.ts';
import { ProcessKernel } from '../process-kernel.ts';
import type { Runtime } from '../runtimes.ts';
import { memoryBytesOf } from './make-cgroups.ts';

/** Starts the sandbox with the runner in it. Its undo ends every process of the kernel, however it came to be. */
export function launchStep(draft: KernelDraft, context: ProcessContext): CreateStep {
  const { launcher, installationId, clock, logger, memoryWatch, recentProcesses } = context;
  const { spec, paths, runtime, resources } = draft;
  const label = labelOf(installationId, spec.kernelId);
  return {
    name: 'launch',
    async run() {
      if (!runtime) throw new AppError('unknown-image', `This agent does not offer the image "${spec.image}".`);
      const { language } = runtime.image;
      const child = launcher.launch({
        candidate: context.candidate,
        kernelId: spec.kernelId,
        paths,
        uid: draft.uid,
        cgroupEntries: context.cgroups ? entryFiles(context.cgroups, draft.cgroups) : [],
        hostname: spec.hostname,
        hasHosts: needsHosts(spec),
        processLimit: draft.isolation.processes === 'rlimit' ? context.processLimit : 0,
        memoryBytes: memoryBytesOf(draft),
        cpus: resources.allocation.cpus,
        devices: resources.devices,
        environment: (view) =>
          kernelEnvironment(spec, view, userInside(draft), { PATH: pathWith(runtime) }, resources.devices.environ),
        command: (view) =>
          runnerCommand(language, runtime.interpreter.path, {
            runnerDirectory: view.runner,
            runDirectory: view.run,
            homeDirectory: view.home,
          }),
      });
      draft.child = child;
      if (child.pid === undefined) {
        // The reason comes as an event, in the next turn.
        throw await new Promise<unknown>((resolve) => child.once('error', resolve));
      }
      child.on('error', (error) => logger.error('sandbox process failed', { kernel_id: spec.kernelId, error }));
      draft.monitor = identify(child.pid);
      saveFacts(draft, context, 'preparing');
      draft.kernel = new ProcessKernel({
        paths,
        isolation: draft.isolation,
        services: preopenServices(spec),
        processes: { monitor: draft.monitor, init: null, cgroups: draft.cgroups, label, uid: draft.uid },
        child,
        memoryBytes: memoryBytesOf(draft),
        memoryWatch,
        recentProcesses,
        clock,
        logger: logger.with({ kernel_id: spec.kernelId }),
      });
    },
    async undo() {
      const { monitor, cgroups, uid } = draft;
      draft.keepHome ||= draft.kernel?.stopReason === 'restart-requested';
      draft.kernel?.close();
      const init = draft.kernel?.processes.init ?? draft.init ?? findInit(paths, draft.isolation.sandbox, monitor);
      await endProcesses({ monitor, init, cgroups, label, uid }, clock);
      draft.kernel = null;
      draft.child = null;
      draft.monitor = null;
    },
  };
}

const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

function pathWith({ interpreter }: Runtime): string {
  const folder = dirname(interpreter.path);
  return systemPath.split(':').includes(folder) ? systemPath : `${folder}:${systemPath}`;
}
