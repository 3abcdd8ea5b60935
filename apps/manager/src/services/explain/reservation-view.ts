import type { ReservationView } from '@backend.ai/contract';
import { type SessionStatus, transientDeadlines } from '@backend.ai/core';
import type { MentionedRecord } from '../../repositories/queue.ts';
import type { HistoryRecord } from '../../repositories/sessions.ts';
import { toIso } from '../sessions/session-view.ts';
import { victimsOf } from './told.ts';
import type { Viewer } from './viewer.ts';

export type Deadlines = Readonly<Partial<Record<SessionStatus, number>>>;

/** What a victim goes through from here on, while it still holds its place. */
const stillAhead: Readonly<Partial<Record<SessionStatus, readonly SessionStatus[]>>> = {
  PREEMPTED: ['PREEMPTED', 'TERMINATING'],
  RESCHEDULING: ['RESCHEDULING'],
  RESTARTING: ['RESTARTING'],
  TERMINATING: ['TERMINATING'],
};

/** @param history Of a session that is RESERVED. */
export function toReservationView(
  history: readonly HistoryRecord[],
  mentioned: ReadonlyMap<string, MentionedRecord>,
  viewer: Viewer,
  deadlinesMs: Deadlines,
): ReservationView | null {
  const reserved = history.findLast(({ toStatus }) => toStatus === 'RESERVED');
  if (!reserved) return null;
  const lasts = (status: SessionStatus): number => deadlinesMs[status] ?? transientDeadlines[status]?.afterMs ?? 0;
  const victims = victimsOf(reserved) ?? [];
  const ends = new Map<string, number>();
  for (const id of victims) {
    const victim = mentioned.get(id);
    const ahead = victim && stillAhead[victim.status];
    if (ahead)
      ends.set(
        id,
        ahead.reduce((end, status) => end + lasts(status), Date.parse(victim.statusChangedAt)),
      );
  }
  const until = Date.parse(reserved.at) + lasts('RESERVED');
  return {
    since: toIso(reserved.at),
    until: new Date(until).toISOString(),
    mode: reserved.data.mode === 'reschedule' ? 'reschedule' : 'terminate',
    leaving: viewer.sessions([...ends.keys()]),
    left: viewer.sessions(victims.filter((id) => !ends.has(id))),
    expectedBy: ends.size === 0 ? null : new Date(Math.min(until, Math.max(...ends.values()))).toISOString(),
  };
}
