import { AppError, type Clock, delay } from '@backend.ai/core';

/**
 * Work that may never come back: it is told to stop when the time is over, and left alone if it does not.
 * @throws AppError `deadline-exceeded`, and whatever the work throws
 */
export async function withinDeadline<Value>(
  clock: Clock,
  timeoutMs: number,
  what: string,
  work: (signal: AbortSignal) => Promise<Value>,
): Promise<Value> {
  const [late, over] = [new AbortController(), new AbortController()];
  const timeout = new AppError('deadline-exceeded', `${what} took longer than ${timeoutMs} ms.`);
  const working = Promise.resolve().then(() => work(late.signal));
  // Nobody is told of what comes after the time is over.
  working.catch(() => {});
  const waiting = delay(clock, timeoutMs, over.signal).then(() => {
    if (over.signal.aborted) return undefined as never;
    late.abort(timeout);
    throw timeout;
  });
  try {
    return await Promise.race([working, waiting]);
  } finally {
    over.abort();
  }
}
