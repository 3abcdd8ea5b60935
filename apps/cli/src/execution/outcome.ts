import type { RunOutcome } from '@backend.ai/client';
import { AppError, type ErrorBody, type ErrorCode } from '@backend.ai/core';

/** What a shell would report for the program: its own code, 124 when its time was over. */
export function exitCodeOf({ exitCode, status }: RunOutcome): number {
  if (status === 'exec-timeout') return 124;
  return exitCode ?? 1;
}

/** The notices of a run, with those for what its status and its exit code tell. */
export function noticesOf(outcome: RunOutcome, requestId: string): readonly ErrorBody[] {
  const { notices, status } = outcome;
  const isTold = (...codes: readonly ErrorCode[]) => notices.some(({ code }) => codes.includes(code));
  if (status === 'exec-timeout' && !isTold('execution-timeout')) {
    const notice = new AppError('execution-timeout', 'The program ran past its time limit and was ended.');
    return [...notices, notice.toBody(requestId)];
  }
  const { exitCode } = outcome;
  if (exitCode === null || exitCode === 0 || isTold('execution-timeout', 'program-killed', 'out-of-memory')) {
    return notices;
  }
  const notice = new AppError('program-failed', `The program ended with exit code ${exitCode}.`, {
    data: { exitCode },
  });
  return [...notices, notice.toBody(requestId)];
}
