/** What a process takes from a group at once should keep it busy for so long, in milliseconds. */
const [leastMs, mostMs] = [20, 100];
const maxBatch = 512;

export const firstBatch = 4;

/**
 * How many events to take next after `size` took `tookMs`: many of the quick ones, for throughput; few of the slow ones,
 * which another process could begin with meanwhile.
 */
export function nextBatch(size: number, tookMs: number): number {
  if (tookMs < leastMs) return Math.min(maxBatch, size * 2);
  if (tookMs > mostMs) return Math.max(1, Math.floor(size / 2));
  return size;
}
