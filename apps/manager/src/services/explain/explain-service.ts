import type {
  PlacementDecision,
  PlacementExplanation,
  Refusal,
  ReservationView,
  SessionExplanation,
  SessionHistoryEntry,
  ToldReason,
  UserActor,
  WaitingExplanation,
} from '@backend.ai/contract';
import { type Clock, type ErrorBody, explainReason, waitingStatuses } from '@backend.ai/core';
import { type WaitingExplanation as SchedulerExplanation, SchedulingState, type Snapshot } from '@backend.ai/scheduler';
import type { QueueRepository } from '../../repositories/queue.ts';
import type { SessionRecord } from '../../repositories/session-rows.ts';
import type { HistoryRecord, SessionRepository } from '../../repositories/sessions.ts';
import type { SessionService } from '../sessions/session-service.ts';
import { toHistoryEntry, toIso } from '../sessions/session-view.ts';
import { type Deadlines, toReservationView } from './reservation-view.ts';
import { mentionedInHistory, toldSentences, victimsOf } from './told.ts';
import { Viewer } from './viewer.ts';
import { mentionedIn, toWaitingView } from './waiting-view.ts';

export interface ExplainServiceOptions {
  readonly sessions: SessionService;
  readonly rows: SessionRepository;
  readonly queue: QueueRepository;
  /** What the leader knows without reading, compiled; undefined at other managers, and while something is doubtful. */
  readonly known: () => Pick<SchedulingState, 'waiting' | 'explain'> | undefined;
  /** The same from the database. */
  readonly read: (now: number) => Promise<Snapshot>;
  /** Where other deadlines than the usual are set. */
  readonly deadlinesMs: Deadlines;
  readonly clock: Clock;
}

/** Why sessions wait, what would let them start, and why they were placed where they are. Nothing happens by asking. */
export class ExplainService {
  readonly #options: ExplainServiceOptions;

  constructor(options: ExplainServiceOptions) {
    this.#options = options;
  }

  /** @throws AppError `session-not-found` */
  async explain(ref: string, actor: UserActor): Promise<SessionExplanation> {
    const { sessions, rows, queue, deadlinesMs } = this.#options;
    const record = await sessions.find(ref, actor);
    const [history, waits] = await Promise.all([
      rows.historyWithReasons(record.id),
      waitingStatuses.includes(record.status) ? this.#waiting(record) : undefined,
    ]);
    const mentioned = await queue.mentioned([...mentionedInHistory(history), ...(waits ? mentionedIn(waits) : [])]);
    const viewer = new Viewer(actor, mentioned);
    const waiting = waits ? toWaitingView(waits, viewer, refusalOf(record)) : null;
    const reserved = record.status === 'RESERVED' ? toReservationView(history, mentioned, viewer, deadlinesMs) : null;
    const reasons = told(history, viewer);
    return {
      sessionId: record.id,
      name: record.name,
      status: record.status,
      headline: headlineOf(record, waiting, reserved, reasons),
      waiting,
      reserved,
      placement: placementOf(history, viewer),
      reasons,
    };
  }

  /** Every change of its state, with its reason. @throws AppError `session-not-found` */
  async history(ref: string, actor: UserActor): Promise<SessionHistoryEntry[]> {
    const { sessions, rows, queue } = this.#options;
    const { id } = await sessions.find(ref, actor);
    const history = await rows.history(id);
    const { mention } = new Viewer(actor, await queue.mentioned(mentionedInHistory(history)));
    const sentences = toldSentences(history, mention);
    return history.map((entry, nth) => toHistoryEntry(entry, sentences[nth]!));
  }

  async #waiting(record: SessionRecord): Promise<SchedulerExplanation | undefined> {
    const { clock, known, read, queue } = this.#options;
    const now = clock.now();
    const kept = known();
    const state = kept?.waiting(record.id) ? kept : new SchedulingState(withRefusal(await read(now), record));
    // Undefined: it was placed, or ended, after it was found.
    const explained = state.explain(record.id, now);
    if (explained?.estimate.basis !== 'unknown') return explained;
    // What was observed is asked for only where nothing better is known.
    return state.explain(record.id, now, await queue.starts(record.resourceGroup));
  }
}

/** That an agent refused it, and until when it is left alone, is in the memory of the leader and in the session's row. */
function withRefusal(snapshot: Snapshot, { id, statusReason, statusData }: SessionRecord): Snapshot {
  const { nextTryAt, agent, agents } = statusData as { nextTryAt?: string; agent?: string; agents?: string[] };
  if (statusReason !== 'agent-refused' || nextTryAt === undefined) return snapshot;
  const refusal = { notBefore: Date.parse(nextTryAt), refusedBy: agents ?? (agent === undefined ? [] : [agent]) };
  const pending = snapshot.pending.map((session) => (session.sessionId === id ? { ...session, ...refusal } : session));
  return { ...snapshot, pending };
}

/** Null: none refused it, or what it said is not known any more. */
function refusalOf({ statusReason, statusData }: SessionRecord): Refusal | null {
  const { error } = statusData as { error?: ErrorBody };
  return statusReason === 'agent-refused' && error ? { code: error.code, message: error.message } : null;
}

function headlineOf(
  { name, status, statusReason }: SessionRecord,
  waiting: WaitingExplanation | null,
  reserved: ReservationView | null,
  told: readonly ToldReason[],
): string {
  if (reserved) {
    const { known, others } = reserved.leaving;
    const count = known.length + others;
    if (count === 0) return `${name} starts with the next pass of the scheduler: those have left who made room for it.`;
    const who = count === 1 ? 'One session' : `${count} sessions`;
    return `${name} has its place reserved, from ${reserved.since} until ${reserved.until} at the latest: ${who} still to leave it.`;
  }
  if (!waiting) {
    const last = told.at(-1);
    const why = last?.code === statusReason ? last.message : explainReason(statusReason);
    return `${name} is ${status}: ${why}`;
  }
  if (waiting.preemption?.byNextPass) {
    return `${name} takes the place of others with the next pass of the scheduler, once they have left.`;
  }
  const [reason] = waiting.reasons;
  if (!reason) return `${name} starts with the next pass of the scheduler.`;
  const { position, queueLength, resourceGroup } = waiting;
  return `${name} waits, ${position} of ${queueLength} in ${resourceGroup}: ${reason.message}`;
}

function told(history: readonly HistoryRecord[], { mention }: Viewer): ToldReason[] {
  const sentences = toldSentences(history, mention);
  return history.map(({ at, toStatus, reason }, nth) => ({
    at: toIso(at),
    status: toStatus,
    code: reason,
    message: sentences[nth]!,
  }));
}

function placementOf(history: readonly HistoryRecord[], viewer: Viewer): PlacementExplanation | null {
  // Where others had to make room, it was chosen before they did.
  const placed = history.findLast(
    ({ toStatus, data }) => (toStatus === 'SCHEDULED' || toStatus === 'RESERVED') && Array.isArray(data.decisions),
  );
  if (!placed) return null;
  const { decisions, backfilled } = placed.data;
  const victims = victimsOf(placed);
  return {
    at: toIso(placed.at),
    decisions: decisions as PlacementDecision[],
    backfilled: backfilled === true,
    victims: victims ? viewer.sessions(victims) : null,
  };
}
