import { AppError, hasCode } from '@backend.ai/core';
import { readTail } from '../../../files/tail.ts';
import type { CreateStep } from '../../backend.ts';
import { type KernelDraft, markRunning, type ProcessContext } from '../draft.ts';

/** Running means: the runner has answered its first ping, and a bootstrap script, if there is one, has ended well. */
export function awaitRunnerStep(draft: KernelDraft, context: ProcessContext): CreateStep {
  return {
    name: 'await-runner',
    async run(signal) {
      const { kernel, paths } = draft;
      if (!kernel) throw new AppError('internal', 'The runner is awaited before it was launched.');
      try {
        await kernel.connectRunner(context.startDeadlineMs, signal);
      } catch (cause) {
        if (hasCode(cause, 'cancelled')) throw cause;
        const output = readTail(paths.folder, 'sandbox.log', 4096).toString('utf8');
        throw new AppError('kernel-start-failed', 'The runner of the kernel did not come up.', {
          cause,
          detail: { output },
        });
      }
      draft.init = kernel.processes.init;
      if (!draft.spec.bootstrap) markRunning(draft, context);
    },
    // The connection ends with the kernel, which `launch` takes back.
    undo() {},
  };
}
