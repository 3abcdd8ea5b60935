import type { Waiting } from './cluster.ts';
import type { PendingSession } from './snapshot.ts';

/** How long the head of a queue is tried before lower priorities have their turn, where its group has no say. */
export const givingUpDefaults = { attempts: 5, intervalMs: 60_000 };
export const priorityLostByGivingUp = 10;

/** What it was queued with. */
export function askedPriority({ priority, requestedPriority = priority }: PendingSession): number {
  return Math.max(priority, requestedPriority);
}

export function hasGivenUp({ session }: Waiting): boolean {
  return askedPriority(session) > session.priority;
}

/**
 * Where it stands in its queue. Giving up lets lower priorities pass, and never its equals: while one waits that asked for
 * the same priority and comes after it, it stands where it stood.
 */
export function standingOf(waiting: Waiting): number {
  return hasEqualBehind(waiting) ? askedPriority(waiting.session) : waiting.session.priority;
}

/** Whether another one waits behind it that asked for the same priority and has lost nothing of it. */
export function hasEqualBehind(waiting: Waiting): boolean {
  const { queue, compareEquals } = waiting.group;
  const asked = askedPriority(waiting.session);
  for (let i = endOfStanding(queue, asked) - 1; i >= 0 && queue[i]!.standing === asked; i--) {
    const other = queue[i]!;
    if (other !== waiting && !hasGivenUp(other)) return compareEquals(waiting, other) < 0;
  }
  return false;
}

/** Behind all of a queue that stand so high. The queue is in order. */
export function endOfStanding(queue: readonly Waiting[], standing: number): number {
  let low = 0;
  let high = queue.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (queue[middle]!.standing >= standing) low = middle + 1;
    else high = middle;
  }
  return low;
}
