import { AppError, hasCode } from '@backend.ai/core';
import type { CreateStep } from '../../backend.ts';
import type { SaveFacts, ScratchDraft } from '../draft.ts';

export interface AwaitRunnerOptions {
  readonly deadlineMs: number;
  readonly save: SaveFacts;
  /** What was printed by that in which the runner was to run. */
  readonly output: () => Promise<string> | string;
}

/** Running means: the runner has answered its first ping, and a bootstrap script, if there is one, has ended well. */
export function awaitRunnerStep(draft: ScratchDraft, { deadlineMs, save, output }: AwaitRunnerOptions): CreateStep {
  return {
    name: 'await-runner',
    async run(signal) {
      const { kernel } = draft;
      if (!kernel) throw new AppError('internal', 'The runner is awaited before it was launched.');
      try {
        await kernel.connectRunner(deadlineMs, signal);
      } catch (cause) {
        if (hasCode(cause, 'cancelled')) throw cause;
        throw new AppError('kernel-start-failed', 'The runner of the kernel did not come up.', {
          cause,
          detail: { output: await output() },
        });
      }
      if (!draft.spec.bootstrap) save('running');
    },
    // The connection ends with the kernel, which the step that launched it takes back.
    undo() {},
  };
}
