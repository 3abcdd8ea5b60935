import type { StepTiming } from '@backend.ai/contract';
import { AppError, type Clock, type TurnRank, type Turns } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import type { CreateStep, StepNews } from '../backends/backend.ts';
import { isDiskFull } from '../files/disk-full.ts';

export interface StepRunOptions {
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** Both may throw, in place of the step that is to run, or that has just run. */
  readonly beforeStep?: ((step: string) => void) | undefined;
  readonly afterStep?: ((step: string) => void) | undefined;
  readonly onNews?: ((news: StepNews) => void) | undefined;
  /** Where it waits for its turn; `next` unless said otherwise. */
  readonly rank?: TurnRank | undefined;
}

/** For tests: what throws in place of a step of a kernel, before it has done anything, or once it has done everything. */
export interface StepFaults {
  readonly before?: ((step: string, kernelId: string) => void) | undefined;
  readonly after?: ((step: string, kernelId: string) => void) | undefined;
}

export interface StepFailure {
  readonly step: string;
  readonly error: AppError;
}

export interface StepsRun {
  readonly timings: StepTiming[];
  readonly failure: StepFailure | null;
}

/** What the wait for a turn is called among the timings. There is none when nobody had to wait. */
export const awaitTurn = 'await-turn';

/** Runs steps in order and says how long each took, or which one failed. Nothing is undone here. */
export async function runSteps(
  steps: readonly CreateStep[],
  { signal, clock, afterStep, beforeStep, onNews = () => {}, rank }: StepRunOptions,
): Promise<StepsRun> {
  const timings: StepTiming[] = [];
  let turn: { readonly of: Turns; end(): void } | undefined;
  try {
    for (const step of steps) {
      if (step.made) continue;
      try {
        if (signal.aborted) throw new AppError('cancelled', 'The start was cancelled.');
        if (turn?.of !== step.turns) {
          turn?.end();
          turn = undefined;
          if (step.turns) turn = { of: step.turns, end: await takeTurn(step.turns, timings, { signal, clock, rank }) };
        }
        beforeStep?.(step.name);
        const startedAt = clock.monotonic();
        // Most steps are synchronous: a turn of the event loop for each would cost more than they do.
        const running = step.run(signal, onNews);
        if (running) await running;
        timings.push({ step: step.name, ms: roundMs(clock.monotonic() - startedAt) });
        afterStep?.(step.name);
      } catch (thrown) {
        return { timings, failure: { step: step.name, error: asStartFailure(thrown, step.name) } };
      }
    }
    return { timings, failure: null };
  } finally {
    // What is undone now waits for nobody, and nobody for it.
    turn?.end();
  }
}

async function takeTurn(
  turns: Turns,
  timings: StepTiming[],
  { signal, clock, rank }: Pick<StepRunOptions, 'signal' | 'clock' | 'rank'>,
): Promise<() => void> {
  if (turns.isFree) return await turns.take(signal);
  const startedAt = clock.monotonic();
  const end = await turns.take(signal, rank);
  timings.push({ step: awaitTurn, ms: roundMs(clock.monotonic() - startedAt) });
  return end;
}

function roundMs(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

function asStartFailure(thrown: unknown, step: string): AppError {
  if (isDiskFull(thrown)) {
    return new AppError('disk-full', 'The kernel could not be started: the disk of the agent is full.', {
      cause: thrown,
      data: { step },
    });
  }
  if (thrown instanceof AppError && thrown.code !== 'internal') return thrown;
  return new AppError('kernel-start-failed', `The kernel could not be started: the step "${step}" failed.`, {
    cause: thrown,
    data: { step },
  });
}

/**
 * Undoes steps in reverse order, those too that never ran. One that fails is logged and stops it: a program that could
 * not be ended may still use what earlier steps made. Answers the steps that are still to be undone.
 */
export async function undoSteps(steps: readonly CreateStep[], logger: Logger): Promise<readonly CreateStep[]> {
  for (const [index, step] of [...steps.entries()].reverse()) {
    try {
      const undoing = step.undo();
      if (undoing) await undoing;
    } catch (error) {
      logger.error('create step could not be undone', { step: step.name, error });
      return steps.slice(0, index + 1);
    }
  }
  return [];
}
