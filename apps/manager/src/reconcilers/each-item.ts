import { isOutage } from '@backend.ai/database';

/**
 * Works on one item after the other, also after one for which it failed: that one does not hold up the others.
 * @throws What it failed with first, once all have had their turn; the loop logs it and comes again.
 */
export async function eachItem<T>(items: Iterable<T>, work: (item: T) => Promise<void>): Promise<void> {
  const [failure] = await failuresOf(items, work);
  if (failure) throw failure.error;
}

/**
 * The same, and goes on after it.
 * @returns what it failed with
 * @throws at once when the database is away: all others would fail, too
 */
export async function failuresOf<T>(
  items: Iterable<T>,
  work: (item: T) => Promise<void>,
): Promise<Array<{ readonly error: unknown }>> {
  const failures: Array<{ readonly error: unknown }> = [];
  for (const item of items) {
    try {
      await work(item);
    } catch (error) {
      if (isOutage(error)) throw error;
      failures.push({ error });
    }
  }
  return failures;
}
