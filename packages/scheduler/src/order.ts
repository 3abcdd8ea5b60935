import type { Waiting } from './cluster.ts';
import { dominantShare, type Group } from './group.ts';
import type { PendingSession, SchedulingPolicy } from './snapshot.ts';

export type Compare = (a: Waiting, b: Waiting) => number;

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
/** Ids sort by creation time and decide between equals. */
const byArrival = (a: PendingSession, b: PendingSession): number =>
  a.createdAt - b.createdAt || byText(a.sessionId, b.sessionId);

export const insideBand: Record<SchedulingPolicy, Compare> = {
  fifo: (a, b) => byArrival(a.session, b.session),
  lifo: (a, b) => byArrival(b.session, a.session),
  // Shares change as a pass places: `turns` decides; this is the order of one user's sessions.
  drf: (a, b) => byArrival(a.session, b.session),
  'fair-share': (a, b) => {
    for (let i = 0; i < a.factors.length; i++) if (a.factors[i] !== b.factors[i]) return b.factors[i]! - a.factors[i]!;
    return byArrival(a.session, b.session);
  },
};

/** Order of a queue: priority, then the policy of its group. */
export function comparatorOf(policy: SchedulingPolicy): Compare {
  return (a, b) => b.standing - a.standing || insideBand[policy](a, b);
}

/** All that wait, in the order in which their turn comes; as of now, where that depends on what users hold. */
export function inTurn(group: Group): readonly Waiting[] {
  if (group.policy !== 'drf') return group.queue;
  const shareOf = new Map<string, number>();
  for (const { user } of group.queue.map(({ session }) => session.owner)) {
    if (!shareOf.has(user)) shareOf.set(user, dominantShare(group, user));
  }
  const share = ({ session }: Waiting): number => shareOf.get(session.owner.user)!;
  return [...group.queue].sort((a, b) => b.standing - a.standing || share(a) - share(b) || group.compareEquals(a, b));
}

/** One priority of a group's queue. `next` is asked after the one before was dealt with. */
export interface Turns {
  next(): Waiting | undefined;
}

/** @param band Sessions of one priority, in the order of their queue. */
export function turns(group: Group, band: readonly Waiting[]): Turns {
  if (group.policy === 'drf') return new SmallestShareFirst(group, band);
  let position = 0;
  return { next: () => band[position++] };
}

interface UserQueue {
  readonly user: string;
  readonly sessions: Waiting[];
  position: number;
  share: number;
}

/** The user with the smallest dominant share goes first, looked at anew after each of its sessions. A binary heap. */
class SmallestShareFirst implements Turns {
  readonly #group: Group;
  readonly #heap: UserQueue[];
  #served = false;

  constructor(group: Group, band: readonly Waiting[]) {
    this.#group = group;
    const users = new Map<string, UserQueue>();
    for (const waiting of band) {
      const { user } = waiting.session.owner;
      const queue = users.get(user);
      if (queue) queue.sessions.push(waiting);
      else users.set(user, { user, sessions: [waiting], position: 0, share: dominantShare(group, user) });
    }
    this.#heap = [...users.values()].sort(before);
  }

  next(): Waiting | undefined {
    const top = this.#heap[0];
    if (top && this.#served) {
      top.position += 1;
      top.share = dominantShare(this.#group, top.user);
      if (top.position === top.sessions.length) {
        const last = this.#heap.pop()!;
        if (last !== top) this.#heap[0] = last;
      }
      this.#sink();
    }
    this.#served = true;
    const first = this.#heap[0];
    return first?.sessions[first.position];
  }

  #sink(): void {
    const heap = this.#heap;
    for (let node = 0; ; ) {
      let least = node;
      for (const child of [2 * node + 1, 2 * node + 2]) {
        if (child < heap.length && before(heap[child]!, heap[least]!) < 0) least = child;
      }
      if (least === node) return;
      [heap[node], heap[least]] = [heap[least]!, heap[node]!];
      node = least;
    }
  }
}

function before(a: UserQueue, b: UserQueue): number {
  return a.share - b.share || byArrival(a.sessions[a.position]!.session, b.sessions[b.position]!.session);
}
