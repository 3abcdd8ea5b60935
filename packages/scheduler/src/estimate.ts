import { releasesOf, reserveFor } from './backfill.ts';
import type { Cluster, Waiting } from './cluster.ts';
import { Placing } from './placing.ts';
import type { WaitingReason } from './plan.ts';
import type { GroupHistory } from './snapshot.ts';

/** When a session starts, as far as anybody can tell. */
export interface Estimate {
  /** Milliseconds since the epoch; null: nobody knows. */
  readonly at: number | null;
  /**
   * `next-pass`: nothing stands in its way. `start-moment`: it asked for that. `time-limits`: by then running sessions have
   * ended that hold what it needs. `history`: as sessions started in its group lately.
   */
  readonly basis: 'next-pass' | 'start-moment' | 'time-limits' | 'history' | 'unknown';
}

/** Samples below which a history says nothing. */
const enoughSamples = 5;

export function estimateStart(
  waiting: Waiting,
  { table }: Cluster,
  reasons: readonly WaitingReason[],
  position: number,
  now: number,
  history: GroupHistory | undefined = waiting.group.options.history,
): Estimate {
  const codes = new Set(reasons.map(({ code }) => code));
  const { startsAt, notBefore } = waiting.session;
  const only = (...expected: Array<WaitingReason['code']>): boolean =>
    [...codes].every((code) => expected.includes(code));
  if (codes.size === 0) return { at: now, basis: 'next-pass' };
  if (only('starts-later', 'agent-refused')) {
    return { at: Math.max(startsAt ?? now, notBefore ?? now), basis: 'start-moment' };
  }
  // Others follow from what somebody does, which nobody knows.
  if (!only('insufficient-resources', 'kernel-limit-reached', 'behind-head-of-line'))
    return { at: null, basis: 'unknown' };
  if (!codes.has('behind-head-of-line')) {
    const { at } = reserveFor(waiting, releasesOf(waiting, now), new Placing(table));
    if (Number.isFinite(at)) return { at, basis: 'time-limits' };
  }
  if (history && history.samples >= enoughSamples && history.startsPerHour > 0) {
    return { at: now + Math.round((position / history.startsPerHour) * 3_600_000), basis: 'history' };
  }
  return { at: null, basis: 'unknown' };
}
