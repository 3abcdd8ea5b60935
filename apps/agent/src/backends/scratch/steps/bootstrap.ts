import { AppError, type Clock } from '@backend.ai/core';
import type { CreateStep } from '../../backend.ts';
import type { SaveFacts, ScratchDraft } from '../draft.ts';

/** Runs the user's script before anybody else gets into the kernel. Only a script that ends well makes it run. */
export function bootstrapStep(draft: ScratchDraft, save: SaveFacts, clock: Clock): CreateStep {
  return {
    name: 'bootstrap',
    async run(signal) {
      const { kernel, spec } = draft;
      if (!kernel || !spec.bootstrap) throw new AppError('internal', 'There is nothing to bootstrap.');
      const { script, timeoutMs } = spec.bootstrap;
      const over = new AbortController();
      const cancel = clock.setTimer(timeoutMs, () => over.abort());
      try {
        const exitCode = await kernel.runToEnd('bootstrap', script, AbortSignal.any([signal, over.signal]));
        if (signal.aborted) throw new AppError('cancelled', 'The start was cancelled.');
        if (exitCode === 0) return save('running');
        throw exitCode === null && over.signal.aborted
          ? failure(`The bootstrap script did not end within ${timeoutMs / 1000} s.`, null)
          : failure(`The bootstrap script failed with exit code ${exitCode}.`, exitCode);
      } finally {
        cancel();
      }
    },
    // Its programs end with the kernel, which the step that launched it takes back.
    undo() {},
  };
}

function failure(message: string, exitCode: number | null): AppError {
  return new AppError('kernel-start-failed', message, {
    data: { step: 'bootstrap', exitCode },
    hint: 'Its output is in the log of the session.',
  });
}
