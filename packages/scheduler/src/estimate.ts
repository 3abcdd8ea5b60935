import { asPlanned } from './as-planned.ts';
import type { Cluster, Waiting } from './cluster.ts';
import { inTurn } from './order.ts';
import { anywhere, Placing } from './placing.ts';
import type { Plan, WaitingReason } from './plan.ts';
import { reservationLater } from './preview.ts';
import { type HeadReservation, Releasing, releasesOf } from './releases.ts';
import type { GroupHistory } from './snapshot.ts';

/** When a session starts, as far as anybody can tell. */
export interface Estimate {
  /** Milliseconds since the epoch; null: nobody knows. */
  readonly at: number | null;
  /**
   * `next-pass`: nothing stands in its way. `start-moment`: it asked for that. `time-limits`: by then running sessions have
   * ended that hold what it and those before it need. `preemption`: others have run for long enough by then to make room.
   * `history`: as sessions started in its group lately.
   */
  readonly basis: 'next-pass' | 'start-moment' | 'time-limits' | 'preemption' | 'history' | 'unknown';
}

/** Samples below which a history says nothing. */
const enoughSamples = 5;
/** Sessions whose starts are followed one by one: each is a look at all agents. */
const followedAtMost = 200;

const unknown: Estimate = { at: null, basis: 'unknown' };
const roomCodes: ReadonlySet<WaitingReason['code']> = new Set([
  'insufficient-resources',
  'kernel-limit-reached',
  'no-common-network',
  'behind-head-of-line',
]);

/** @param plan Of the same cluster and moment. */
export function estimateStart(
  waiting: Waiting,
  cluster: Cluster,
  plan: Plan,
  reasons: readonly WaitingReason[],
  now: number,
  history: GroupHistory | undefined = waiting.group.options.history,
): Estimate {
  const { startsAt, notBefore } = waiting.session;
  const only = (...expected: Array<WaitingReason['code']>): boolean =>
    reasons.every(({ code }) => expected.includes(code));
  if (reasons.length === 0) return { at: now, basis: 'next-pass' };
  if (only('starts-later', 'agent-refused')) {
    return { at: Math.max(startsAt ?? now, notBefore ?? now), basis: 'start-moment' };
  }
  // Others follow from what somebody does, which nobody knows.
  if (!only('insufficient-resources', 'kernel-limit-reached', 'behind-head-of-line')) return unknown;
  return asPlanned(cluster, plan, () => new Following(cluster, plan, now, history).startOf(waiting));
}

/**
 * A queue as it goes on from its plan, in order: nobody starts before those ahead. What ends is known by time limits; from
 * the first session on of which these tell nothing, the pace of the group counts; from the first on of which that tells
 * nothing, or told a moment that has passed, nobody knows.
 */
class Following {
  readonly #cluster: Cluster;
  readonly #plan: Plan;
  readonly #now: number;
  readonly #history: GroupHistory | undefined;

  constructor(cluster: Cluster, plan: Plan, now: number, history: GroupHistory | undefined) {
    this.#cluster = cluster;
    this.#plan = plan;
    this.#now = now;
    this.#history = history;
  }

  startOf(waiting: Waiting): Estimate {
    const { group } = waiting;
    const placing = new Placing(this.#cluster.table);
    const leaving = new Set(
      this.#plan.reservations.flatMap(({ victims }) => victims.map((victim) => victim.sessionId)),
    );
    const releasing = new Releasing(releasesOf(group, this.#now, leaving), placing);
    let at = this.#now;
    let followed = 0;
    for (const [index, other] of inTurn(group).entries()) {
      if (other !== waiting && !this.#waitsForRoom(other)) continue;
      if (followed < followedAtMost) {
        const room = roomFor(other, at, releasing, placing);
        const made = followed === 0 ? reservationLater(other, this.#cluster, this.#now, leaving) : undefined;
        followed = room ? followed + 1 : followedAtMost;
        if (made && !(room && room.at <= made.at)) {
          // Whom it finds there by then is too uncertain to follow the others.
          followed = followedAtMost;
          at = made.at;
          if (other === waiting) return { at, basis: 'preemption' };
          continue;
        }
        if (room) {
          at = room.at;
          if (other === waiting) return { at, basis: 'time-limits' };
          releasing.begins(other, at, room.choices);
          continue;
        }
      }
      const moment = this.#byPace(other, index + 1);
      if (moment === undefined || moment <= this.#now) return unknown;
      at = Math.max(at, moment);
      if (other === waiting) return { at, basis: 'history' };
    }
    return unknown;
  }

  #waitsForRoom({ session }: Waiting): boolean {
    const reason = this.#plan.reasons.get(session.sessionId);
    return reason !== undefined && roomCodes.has(reason.code);
  }

  /** Counted from when something happened last, so that it stays the same moment as long as nothing does. */
  #byPace({ session }: Waiting, position: number): number | undefined {
    if (!this.#history) return undefined;
    const { samples, startsPerHour, lastStartAt = 0 } = this.#history;
    if (samples < enoughSamples || startsPerHour <= 0) return undefined;
    const since = Math.max(session.queuedAt ?? session.createdAt, lastStartAt);
    return since + Math.round((position / startsPerHour) * 3_600_000);
  }
}

/** At this moment or a later one; what it takes is held. Undefined: nobody knows. */
function roomFor(waiting: Waiting, at: number, releasing: Releasing, placing: Placing): HeadReservation | undefined {
  const choices = placing.place(waiting, anywhere);
  if (!('failed' in choices)) return { at, choices };
  const later = releasing.roomFor(waiting);
  return Number.isFinite(later.at) ? later : undefined;
}
