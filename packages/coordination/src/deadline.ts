import { AppError, type Clock, deferred } from '@backend.ai/core';

/** @throws AppError `deadline-exceeded` when `work` takes longer than `ms`; what it does afterwards is not heard of */
export async function within<T>(clock: Clock, ms: number, work: () => Promise<T>): Promise<T> {
  const late = deferred<never>();
  const cancel = clock.setTimer(ms, () =>
    late.reject(new AppError('deadline-exceeded', 'There was no answer in time.', { data: { deadlineMs: ms } })),
  );
  try {
    return await Promise.race([work(), late.promise]);
  } finally {
    cancel();
  }
}
