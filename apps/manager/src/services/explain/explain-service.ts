import type {
  PlacementDecision,
  PlacementExplanation,
  Refusal,
  SessionExplanation,
  UserActor,
  WaitingExplanation,
} from '@backend.ai/contract';
import { type Clock, type ErrorBody, explainReason, waitingStatuses } from '@backend.ai/core';
import { SchedulingState, type Snapshot } from '@backend.ai/scheduler';
import type { QueueRepository } from '../../repositories/queue.ts';
import type { SessionRecord } from '../../repositories/session-rows.ts';
import type { HistoryRecord, SessionRepository } from '../../repositories/sessions.ts';
import type { SessionService } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';
import { mentionedIn, toWaitingView, Viewer } from './waiting-view.ts';

export interface ExplainServiceOptions {
  readonly sessions: SessionService;
  readonly rows: SessionRepository;
  readonly queue: QueueRepository;
  /** What the leader knows without reading, compiled; undefined at other managers, and while something is doubtful. */
  readonly known: () => Pick<SchedulingState, 'snapshot' | 'waiting' | 'explain'> | undefined;
  /** The same from the database. */
  readonly read: (now: number) => Promise<Snapshot>;
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
    const record = await this.#options.sessions.find(ref, actor);
    const [history, waiting] = await Promise.all([
      this.#options.rows.historyWithReasons(record.id),
      waitingStatuses.includes(record.status) ? this.#waiting(record, actor) : null,
    ]);
    return {
      sessionId: record.id,
      name: record.name,
      status: record.status,
      headline: headlineOf(record, waiting),
      waiting,
      placement: placementOf(history),
      reasons: history.map(({ at, toStatus, reason }) => ({
        at: toIso(at),
        status: toStatus,
        code: reason,
        message: explainReason(reason),
      })),
    };
  }

  async #waiting(record: SessionRecord, actor: UserActor): Promise<WaitingExplanation | null> {
    const { clock, known, read, queue } = this.#options;
    const now = clock.now();
    const kept = known();
    const state = kept?.waiting(record.id) ? kept : new SchedulingState(withRefusal(await read(now), record));
    let explained = state.explain(record.id, now);
    // What was observed is asked for only where nothing better is known.
    if (explained?.estimate.basis === 'unknown') {
      explained = state.explain(record.id, now, await queue.starts(record.resourceGroup));
    }
    // It was placed, or ended, after it was found.
    if (!explained) return null;
    const snapshot = state.snapshot(now);
    const seen = new Viewer(actor, snapshot, record.id);
    const ids = mentionedIn(explained).filter((id) => seen.sees(id));
    const refusal = refusalOf(record);
    if (ids.length === 0) return toWaitingView(explained, seen, refusal);
    return toWaitingView(explained, new Viewer(actor, snapshot, record.id, await queue.names(ids)), refusal);
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

function headlineOf(record: SessionRecord, waiting: WaitingExplanation | null): string {
  if (!waiting) return `${record.name} is ${record.status}: ${explainReason(record.statusReason)}`;
  if (waiting.preemption?.byNextPass) {
    return `${record.name} takes the place of others with the next pass of the scheduler, once they have left.`;
  }
  const [reason] = waiting.reasons;
  if (!reason) return `${record.name} starts with the next pass of the scheduler.`;
  const { position, queueLength, resourceGroup } = waiting;
  return `${record.name} waits, ${position} of ${queueLength} in ${resourceGroup}: ${reason.message}`;
}

function placementOf(history: readonly HistoryRecord[]): PlacementExplanation | null {
  // Where others had to make room, it was chosen before they did.
  const placed = history.findLast(
    ({ toStatus, data }) => (toStatus === 'SCHEDULED' || toStatus === 'RESERVED') && Array.isArray(data.decisions),
  );
  if (!placed) return null;
  const { decisions, backfilled } = placed.data;
  return {
    at: toIso(placed.at),
    decisions: decisions as PlacementDecision[],
    backfilled: backfilled === true,
  };
}
