import type { RunOutcome } from '@backend.ai/client';
import { AppError, type ErrorBody } from '@backend.ai/core';

/** What a shell would report for the program: its own code, 124 when its time was over. */
export function exitCodeOf({ exitCode, status }: RunOutcome): number {
  if (status === 'exec-timeout') return 124;
  return exitCode ?? 1;
}

/** The notices of a run, with one for a time limit that the run's status tells. */
export function noticesOf({ notices, status }: RunOutcome): readonly ErrorBody[] {
  if (status !== 'exec-timeout' || notices.some(({ code }) => code === 'execution-timeout')) return notices;
  return [...notices, new AppError('execution-timeout', 'The program ran past its time limit and was ended.').toBody()];
}
