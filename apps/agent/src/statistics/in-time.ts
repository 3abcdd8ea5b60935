import { AppError, type Clock, delay } from '@backend.ai/core';

/**
 * What a measurement answers, unless it takes too long. It goes on by itself then; its outcome does not matter any more.
 * @throws AppError `deadline-exceeded`
 */
export async function inTime<T>(clock: Clock, measuring: Promise<T>, deadlineMs: number, what: string): Promise<T> {
  const over = new AbortController();
  let isLate = true;
  const late = delay(clock, deadlineMs, over.signal);
  const settled = measuring.then(
    () => {
      isLate = false;
    },
    () => {
      isLate = false;
    },
  );
  await Promise.race([settled, late]);
  over.abort();
  if (!isLate) return await measuring;
  throw new AppError('deadline-exceeded', `${what} was not measured within ${deadlineMs} ms.`);
}
