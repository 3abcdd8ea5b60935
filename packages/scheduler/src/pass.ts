import { BackfillGate } from './backfill.ts';
import { type Cluster, expiryOf, type Holding, type Waiting } from './cluster.ts';
import { endOfStanding, givingUpDefaults, hasEqualBehind, priorityLostByGivingUp } from './giving-up.ts';
import type { Group } from './group.ts';
import { turns } from './order.ts';
import { type Choice, Placing, placementOf, shortageOf } from './placing.ts';
import type { Placement, Plan, Reservation, WaitingReason } from './plan.ts';
import { preemptFor } from './preemption.ts';
import { countSession } from './quota.ts';
import { Reasons } from './reasons.ts';
import { type Release, releasesOf, reserveFor } from './releases.ts';
import { exceedsAgents, knownToExceed, obstacleBefore } from './validate.ts';
import { WarmSlotsOfPass } from './warm-slots.ts';

/** Its reasons know what is new. */
export type PlanOfPass = Plan & { readonly reasons: Reasons };

interface Head {
  readonly waiting: Waiting;
  readonly reason: WaitingReason;
  /** Where the group lets others pass. */
  readonly gate: BackfillGate | undefined;
}

/**
 * One pass over all queues: highest priority first, through all groups, since quotas are shared between them.
 *
 * A session that lacks resources only is the head of its group: nothing behind it starts in this pass, unless the group
 * backfills. What concerns one session alone (a quota, a dependency, an image, a size that no agent has) holds back nobody.
 */
export function runPass(cluster: Cluster, now: number): PlanOfPass {
  const pass = new Pass(cluster, now);
  try {
    return pass.run();
  } finally {
    pass.restore();
  }
}

class Pass {
  readonly #cluster: Cluster;
  readonly #now: number;
  readonly #placing: Placing;
  readonly #warm: WarmSlotsOfPass | undefined;
  readonly #mark: number;
  readonly #heads = new Map<Group, Head>();
  readonly #begun = new Map<Group, Release[]>();
  readonly #claimed = new Set<Holding>();
  readonly #counted: Waiting[] = [];
  readonly #placements: Placement[] = [];
  readonly #reservations: Reservation[] = [];
  readonly #reasons = new Reasons();
  readonly #attempted: string[] = [];
  readonly #deprioritised: Array<{ sessionId: string; priority: number }> = [];
  readonly #expired: string[] = [];
  /** Another one after each decision that others may feel. */
  #decided: object = {};

  constructor(cluster: Cluster, now: number) {
    this.#cluster = cluster;
    this.#now = now;
    this.#placing = new Placing(cluster.table);
    this.#warm = cluster.table.warm.size > 0 ? new WarmSlotsOfPass(cluster.table) : undefined;
    this.#mark = cluster.table.mark();
  }

  run(): PlanOfPass {
    for (const [group, band] of this.#bands()) {
      const queue = turns(group, band);
      let waiting = queue.next();
      for (; waiting && !this.#isClosed(group); waiting = queue.next()) this.#consider(waiting);
      for (; waiting; waiting = queue.next()) this.#behindClosed(this.#heads.get(group)!, waiting);
    }
    return {
      placements: this.#placements,
      reservations: this.#reservations,
      reasons: this.#reasons,
      attempted: this.#attempted,
      deprioritised: this.#deprioritised,
      expired: this.#expired,
      roundRobin: Object.fromEntries([...this.#placing.roundRobin].sort(([a], [b]) => (a < b ? -1 : 1))),
    };
  }

  /** The cluster as it was. */
  restore(): void {
    for (const waiting of this.#counted) this.#count(waiting, -1);
    this.#cluster.table.undo(this.#mark);
    this.#cluster.table.changes.length = 0;
    for (const group of this.#cluster.groups.values()) {
      for (const shape of group.shapes.values()) shape.tournament = undefined;
    }
  }

  /** Each priority of each group: highest first, then by name of the group. */
  #bands(): Array<[Group, Waiting[]]> {
    const bands: Array<{ group: Group; sessions: Waiting[]; standing: number }> = [];
    for (const group of this.#cluster.groups.values()) {
      const { queue } = group;
      for (let begin = 0; begin < queue.length; ) {
        const { standing } = queue[begin]!;
        const end = endOfStanding(queue, standing);
        bands.push({ group, sessions: queue.slice(begin, end), standing });
        begin = end;
      }
    }
    // Groups stand in order of their names, and sorting keeps the order of equals.
    return bands.sort((a, b) => b.standing - a.standing).map(({ group, sessions }) => [group, sessions]);
  }

  /** Nothing of the group starts any more in this pass, and nobody's time of waiting is limited. */
  #isClosed(group: Group): boolean {
    const head = this.#heads.get(group);
    return head !== undefined && head.gate === undefined && !((group.options.pendingTimeoutMs ?? 0) > 0);
  }

  /** What `#consider` finds behind the head of a closed group: most of a long queue is here. */
  #behindClosed({ reason }: Head, waiting: Waiting): void {
    if (this.#isKnown(waiting)) return;
    this.#waits(waiting, obstacleBefore(waiting, this.#cluster, this.#now) ?? reason);
  }

  /** It waits for the reason of one like it, since when nothing was decided. */
  #isKnown(waiting: Waiting): boolean {
    const { alike } = waiting;
    if (alike?.since !== this.#decided) return false;
    this.#reasons.add(waiting, alike.reason!);
    return true;
  }

  /** For a reason that those like it have as well. */
  #waits(waiting: Waiting, reason: WaitingReason): void {
    const { alike } = waiting;
    this.#reasons.add(waiting, reason);
    if (!alike) return;
    alike.reason = reason;
    alike.since = this.#decided;
  }

  #consider(waiting: Waiting): void {
    const { session, group } = waiting;
    const { sessionId } = session;
    if (this.#now >= expiryOf(waiting)) {
      this.#expired.push(sessionId);
      this.#reasons.add(waiting, { code: 'pending-timeout', data: { resourceGroup: group.name } });
      return;
    }
    if (this.#isKnown(waiting)) return;
    const obstacle = obstacleBefore(waiting, this.#cluster, this.#now);
    if (obstacle) {
      this.#waits(waiting, obstacle);
      return;
    }
    const head = this.#heads.get(group);
    if (head) this.#behind(head, waiting);
    else this.#first(waiting);
  }

  #first(waiting: Waiting): void {
    if (this.#tooLarge(waiting, knownToExceed(waiting))) return;
    const choices = this.#warm?.place(waiting, this.#placing) ?? this.#placing.place(waiting);
    if (!('failed' in choices)) {
      this.#place(waiting, choices);
      return;
    }
    if (this.#tooLarge(waiting)) return;
    const reservation = preemptFor(waiting, this.#cluster, this.#placing, this.#claimed, this.#now);
    if (reservation) {
      this.#reservations.push(reservation);
      this.#count(waiting, 1);
      this.#counted.push(waiting);
      return;
    }
    this.#lead(waiting, shortageOf(waiting, choices, this.#cluster.table));
  }

  /** It lacks resources, and everything behind it in its group waits for it. */
  #lead(waiting: Waiting, reason: WaitingReason): void {
    const { sessionId, priority, attempts = 0 } = waiting.session;
    const { group } = waiting;
    this.#reasons.add(waiting, reason);
    this.#attempted.push(sessionId);
    const { attemptsBeforeGivingUp: most = givingUpDefaults.attempts } = group.options;
    if (most > 0 && attempts + 1 >= most && priority > 0 && !hasEqualBehind(waiting)) {
      this.#deprioritised.push({ sessionId, priority: Math.max(0, priority - priorityLostByGivingUp) });
    }
    let gate: BackfillGate | undefined;
    if (group.options.backfill) {
      const releases = [...releasesOf(group, this.#now), ...(this.#begun.get(group) ?? [])];
      const reservation = reserveFor(waiting, releases, this.#placing);
      gate = new BackfillGate(waiting, reservation, this.#cluster.table, releases, this.#now);
    }
    this.#heads.set(group, { waiting, gate, reason: { code: 'behind-head-of-line', data: { head: sessionId } } });
    this.#decided = {};
  }

  #behind({ gate, reason }: Head, waiting: Waiting): void {
    if (gate?.consider(waiting)) {
      if (this.#tooLarge(waiting, knownToExceed(waiting))) return;
      const choices = this.#placing.place(waiting, gate);
      if (!('failed' in choices)) {
        this.#place(waiting, choices, true);
        return;
      }
      // Smaller than the head's excuse: it would not fit anywhere, ever.
      if (this.#tooLarge(waiting)) return;
    }
    this.#reasons.add(waiting, reason);
  }

  /** Whether no agent would have room with nothing on it, which is then its reason. */
  #tooLarge(waiting: Waiting, maybe = true): boolean {
    const exceeds = maybe ? exceedsAgents(waiting, this.#cluster) : undefined;
    if (!exceeds) return false;
    // A gate that looks at more than what they ask for decides which of those behind it come as far as this.
    if (this.#heads.has(waiting.group)) this.#reasons.add(waiting, exceeds);
    else this.#waits(waiting, exceeds);
    return true;
  }

  #place(waiting: Waiting, choices: Choice[], backfilled = false): void {
    const { session, group } = waiting;
    this.#placements.push({ ...placementOf(waiting, choices), ...(backfilled ? { backfilled: true as const } : {}) });
    this.#count(waiting, 1);
    this.#counted.push(waiting);
    const endsAt = session.timeLimitMs === undefined ? undefined : this.#now + session.timeLimitMs;
    const kernels = choices.map(({ agent, shape }) => ({ agent, slots: shape.slots, kernels: shape.kernels }));
    const begun = this.#begun.get(group);
    if (begun) begun.push({ endsAt, kernels });
    else this.#begun.set(group, [{ endsAt, kernels }]);
  }

  #count({ session, scopes, total, group }: Waiting, sign: 1 | -1): void {
    this.#decided = {};
    countSession(scopes, total, session.private ?? false, sign);
    if (!session.private) group.count(session.owner.user, total, sign);
  }
}
