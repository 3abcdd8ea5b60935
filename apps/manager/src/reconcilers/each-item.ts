/**
 * Works on one item after the other, also after one for which it failed: that one does not hold up the others.
 * @throws What it failed with first, once all have had their turn; the loop logs it and comes again.
 */
export async function eachItem<T>(items: Iterable<T>, work: (item: T) => Promise<void>): Promise<void> {
  const failures: unknown[] = [];
  for (const item of items) {
    try {
      await work(item);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}
