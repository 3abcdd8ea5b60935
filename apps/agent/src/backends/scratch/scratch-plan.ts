import { AppError, type Clock } from '@backend.ai/core';
import type { UidPool } from '../../resources/uid-pool.ts';
import type { CreateStep, KernelPlan } from '../backend.ts';
import type { SaveFacts, ScratchDraft } from './draft.ts';
import type { KeptHomes } from './kept-homes.ts';
import { allocateUidStep } from './steps/allocate-uid.ts';
import { awaitRunnerStep } from './steps/await-runner.ts';
import { bootstrapStep } from './steps/bootstrap.ts';
import { furnishHomeStep, needsFurniture } from './steps/furnish-home.ts';
import { makeScratchStep } from './steps/make-scratch.ts';
import { writeFactsStep } from './steps/write-facts.ts';

export interface ScratchPlanOptions<Draft extends ScratchDraft> {
  readonly draft: Draft;
  /** Where the draft is for as long as it has a folder. */
  readonly drafts: Set<Draft>;
  readonly context: {
    readonly uids: UidPool;
    readonly keptHomes: KeptHomes;
    /** How long a runner may take to its first answer, in milliseconds. */
    readonly startDeadlineMs: number;
    readonly clock: Clock;
  };
  /** Whether the kernels of a session need a table to find one another. */
  readonly withHosts: boolean;
  readonly save: SaveFacts;
  /** What was printed by that in which the runner was to run. */
  readonly output: () => Promise<string> | string;
  /** What keeps programs apart: before its facts are written, after that, and what starts the runner in it. */
  readonly steps: {
    readonly beforeFacts?: readonly CreateStep[];
    readonly afterFacts?: readonly CreateStep[];
    readonly launch: CreateStep;
  };
}

/** How a kernel with a scratch folder is made, around what keeps its programs apart. */
export function scratchPlan<Draft extends ScratchDraft>(options: ScratchPlanOptions<Draft>): KernelPlan {
  const { draft, drafts, context, withHosts, save, output, steps } = options;
  const { beforeFacts = [], afterFacts = [], launch } = steps;
  return {
    steps: [
      keptIn(drafts, draft, makeScratchStep(draft)),
      allocateUidStep(draft, context),
      ...(needsFurniture(draft.spec, withHosts) ? [furnishHomeStep(draft, withHosts)] : []),
      ...beforeFacts,
      writeFactsStep(draft, save),
      ...afterFacts,
      launch,
      awaitRunnerStep(draft, { deadlineMs: context.startDeadlineMs, save, output }),
      ...(draft.spec.bootstrap ? [bootstrapStep(draft, save, context.clock)] : []),
    ],
    launchStep: launch.name,
    handle: () => {
      if (!draft.kernel) throw new AppError('internal', 'The kernel has not been started.');
      return draft.kernel;
    },
    launched: () => draft.kernel,
  };
}

function keptIn<Draft>(drafts: Set<Draft>, draft: Draft, step: CreateStep): CreateStep {
  return {
    ...step,
    run: (signal, tell) => {
      drafts.add(draft);
      return step.run(signal, tell);
    },
    undo: async () => {
      await step.undo();
      drafts.delete(draft);
    },
  };
}
