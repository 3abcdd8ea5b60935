import {
  type Action,
  allow,
  type CallContext,
  type DestroySessionResult,
  type PullProgress,
  type SessionDetailsView,
  type SessionView,
  scopeOf,
  type Target,
  type UserActor,
} from '@backend.ai/contract';
import {
  AppError,
  type Clock,
  checkSessionName,
  isTerminal,
  isUuid,
  newId,
  type SessionStatus,
  type StatusReason,
  servingStatuses,
} from '@backend.ai/core';
import { requireRequestId } from '@backend.ai/telemetry';
import type { AuditEntry } from '../../repositories/audit.ts';
import type { SessionDetails, SessionRecord } from '../../repositories/session-rows.ts';
import type { ChangedSession, SessionTransitions } from '../../repositories/session-transitions.ts';
import type { InspectedSession, Owned, SessionRepository } from '../../repositories/sessions.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import { notRunning } from './not-running.ts';
import { heardOfChange, type SessionChanges } from './session-changes.ts';
import { toSessionDetails, toSessionView } from './session-view.ts';

export interface SessionServiceOptions {
  readonly sessions: SessionRepository;
  readonly transitions: SessionTransitions;
  readonly changes: SessionChanges;
  readonly audit: AuditLog;
  readonly clock: Clock;
  /** How far the fetches of its image are; null: nobody can tell. */
  readonly pullProgress: (record: SessionRecord) => Promise<PullProgress | null>;
}

/** What a user wants to do with a session. */
export interface SessionChangeRequest {
  /** Name or id. */
  readonly session: string;
  readonly action: Action;
  /** For the audit log. */
  readonly changes: Readonly<Record<string, unknown>>;
}

/** What its actor may see of a session, and what is measured and judged of it. */
export interface InspectedView extends Pick<InspectedSession, 'measured' | 'running'> {
  readonly session: SessionDetailsView;
}

/** It ran, whatever became of it since. */
const runningOrEnding: readonly SessionStatus[] = [...servingStatuses, 'TERMINATING'];
/** Who watches an image being fetched sees it move this often. */
const progressEveryMs = 1_000;

/** What users do with sessions. Every change is an intent: loops carry it out. */
export class SessionService {
  readonly #options: SessionServiceOptions;

  constructor(options: SessionServiceOptions) {
    this.#options = options;
  }

  /**
   * By name among those of the actor's key pair, or by id among all that the actor may see.
   * @throws AppError `session-not-found` also for what may not be seen, `forbidden` for what may only be looked at
   */
  async find(ref: string, actor: UserActor, action: Action = 'session:read'): Promise<SessionRecord> {
    const { sessions } = this.#options;
    const found = await sessions.find(toRef(ref), actor.accessKey, scopeOf(actor, 'session:read'));
    if (!found) throw notFound(ref);
    if (!allow(actor, action, targetOf(found)))
      throw new AppError('forbidden', `This cannot be done by you with the session "${ref}".`, { data: { action } });
    return found;
  }

  async get(ref: string, actor: UserActor): Promise<SessionDetailsView> {
    const { sessions } = this.#options;
    const found = await sessions.findDetails(toRef(ref), actor.accessKey, scopeOf(actor, 'session:read'));
    if (!found) throw notFound(ref);
    return detailsFor(actor, found);
  }

  async inspect(ref: string, actor: UserActor): Promise<InspectedView> {
    const { sessions } = this.#options;
    const found = await sessions.findInspected(toRef(ref), actor.accessKey, scopeOf(actor, 'session:read'));
    if (!found) throw notFound(ref);
    return { session: detailsFor(actor, found), measured: found.measured, running: found.running };
  }

  /** Those of the actor's key pair, or of `everyone` whose sessions the actor may see. */
  async list(
    options: { all: boolean; everyone?: boolean | undefined; limit: number },
    actor: UserActor,
  ): Promise<SessionView[]> {
    const owners = options.everyone ? scopeOf(actor, 'session:read') : actor.accessKey;
    const records = await this.#options.sessions.list({ owners, all: options.all, limit: options.limit });
    return records.map(toSessionView);
  }

  /** The session once it is there, or as it is after the time given, or when the caller went away. */
  async wait(
    input: { session: string; until: 'running' | 'ended'; timeoutMs: number },
    actor: UserActor,
    signal: AbortSignal | undefined,
  ): Promise<SessionView> {
    const reached = (status: SessionStatus): boolean =>
      isTerminal(status) || (input.until === 'running' && runningOrEnding.includes(status));
    let record = await this.find(input.session, actor);
    if (reached(record.status)) return toSessionView(record);
    const { clock, changes, sessions } = this.#options;
    const end = new AbortController();
    const abort = (): void => end.abort();
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
    const cancelTimer = clock.setTimer(input.timeoutMs, abort);
    const following = changes.follow(record.id);
    try {
      for (;;) {
        // Looked at after following began, so that no change falls in between.
        record = (await sessions.findById(record.id)) ?? record;
        if (reached(record.status) || end.signal.aborted) return await this.#withProgress(record);
        // Of states on the way a waiter need not know more than that they were passed.
        while (await heardOfChange(following, clock, end.signal)) if (reached(following.latest?.to ?? 'RUNNING')) break;
      }
    } finally {
      following.stop();
      cancelTimer();
      signal?.removeEventListener('abort', abort);
    }
  }

  /** The session now and after each change, until it has ended or the caller went away. */
  async *watch(ref: string, actor: UserActor, signal: AbortSignal | undefined): AsyncIterable<SessionView> {
    const { clock, changes, sessions } = this.#options;
    let record = await this.find(ref, actor);
    const following = changes.follow(record.id);
    const stop = signal ?? new AbortController().signal;
    try {
      let shown = '';
      while (!stop.aborted) {
        record = (await sessions.findById(record.id)) ?? record;
        const view = await this.#withProgress(record);
        const now = `${record.version} ${view.pull?.currentBytes ?? ''}`;
        if (now !== shown) yield view;
        shown = now;
        if (isTerminal(record.status)) return;
        await heardOfChange(following, clock, stop, record.status === 'PULLING' ? progressEveryMs : undefined);
      }
    } finally {
      following.stop();
    }
  }

  async #withProgress(record: SessionRecord): Promise<SessionView> {
    const pull = record.status === 'PULLING' ? await this.#options.pullProgress(record) : null;
    return { ...toSessionView(record), pull };
  }

  /**
   * Ends a session: one that waits is cancelled at once, others end in the background. Asking twice is harmless.
   * `forced` frees its resources at once; its agent ends what is left when it can be reached. `recursive` ends those that
   * depend on it before: none of them starts, or is cancelled for another reason, meanwhile.
   */
  async destroy(
    ref: string,
    { forced, recursive = false }: { readonly forced: boolean; readonly recursive?: boolean | undefined },
    actor: UserActor,
  ): Promise<DestroySessionResult> {
    const request = { session: ref, action: 'session:destroy', changes: { forced, recursive } } as const;
    return await this.#change(request, actor, async (record, audit) => {
      if (isTerminal(record.status)) {
        throw new AppError('session-not-found', `The session "${ref}" has ended already.`, {
          data: { sessionId: record.id, status: record.status },
        });
      }
      const reason = record.userId === (actor.by ?? actor).userId ? 'user-requested' : 'admin-requested';
      const dependents = recursive ? await this.#options.sessions.liveDependents(record.id) : [];
      for (const { id, name } of dependents) {
        const changes = { ...audit.changes, session: name, with: record.id };
        await this.end(id, reason, forced, { ...audit, id: newId(), targetId: id, changes });
      }
      await this.end(record.id, reason, forced, audit);
      const now = async (before: SessionRecord): Promise<SessionView> =>
        toSessionView((await this.#options.sessions.findById(before.id)) ?? before);
      return { ...(await now(record)), dependents: await Promise.all(dependents.map(now)) };
    });
  }

  /**
   * Starts a running session anew: its kernels end, then it waits for its turn with the same id and name.
   * @throws AppError `session-not-running`
   */
  async restart(ref: string, actor: UserActor): Promise<SessionView> {
    const request = { session: ref, action: 'session:restart', changes: {} } as const;
    return await this.#change(request, actor, async (record, audit) => {
      const requestId = requireRequestId();
      const target = { sessionId: record.id };
      const change = { to: 'RESTARTING', reason: 'restart-requested', requestId, data: { requestId } } as const;
      const moved = await this.#options.transitions.apply({ target, ...change, audit });
      const now = (await this.#options.sessions.findById(record.id)) ?? record;
      // Asking twice is harmless.
      if (moved.length === 0 && now.status !== 'RESTARTING') throw notRunning(now);
      announceAll(this.#options.changes, moved);
      return toSessionView(now);
    });
  }

  /** @throws AppError `session-not-running`, `invalid-session-name`, `session-exists` */
  async rename(ref: string, name: string, actor: UserActor): Promise<SessionView> {
    const request = { session: ref, action: 'session:rename', changes: { name } } as const;
    const { sessions } = this.#options;
    return await this.#change(request, actor, async (record, audit) => {
      checkSessionName(name);
      if (record.name === name) return toSessionView(record);
      const outcome = await sessions.rename(record.id, name, audit);
      const now = (await sessions.findById(record.id)) ?? record;
      if (outcome === 'not-running') throw notRunning(now);
      if (outcome === 'name-taken') throw new AppError('session-exists', `A session named "${name}" exists already.`);
      this.#announceUnmoved(now);
      return toSessionView(now);
    });
  }

  /** Something else of it than its state has changed. */
  #announceUnmoved({ id: sessionId, name, accessKey, status, statusReason: reason, kernels }: SessionRecord): void {
    const change = { sessionId, kernelId: kernels[0]?.id ?? '', agentId: kernels[0]?.agentId ?? null, name, accessKey };
    this.#options.changes.announce([{ ...change, from: status, to: status, reason }]);
  }

  /**
   * Writes down that its programs are to stand still, or to go on, and lets `carryOut` tell agents.
   * @throws AppError `session-not-running`, and what `carryOut` throws
   */
  async changePaused(
    ref: string,
    paused: boolean,
    actor: UserActor,
    carryOut: (record: SessionRecord) => Promise<void>,
  ): Promise<SessionView> {
    const request = { session: ref, action: 'session:pause', changes: { paused } } as const;
    const { sessions } = this.#options;
    return await this.#change(request, actor, async (record, audit) => {
      const wished = await sessions.setPaused(record.id, paused, audit);
      const now = (await sessions.findById(record.id)) ?? record;
      if (!wished) throw notRunning(now);
      await carryOut(now);
      this.#announceUnmoved(now);
      return toSessionView(now);
    });
  }

  /** Something else that is done to a session: its row in the audit log follows it. */
  async recorded<T>(
    request: SessionChangeRequest,
    actor: UserActor,
    work: (record: SessionRecord) => Promise<T>,
  ): Promise<T> {
    return await this.#change(request, actor, async (record, audit) => {
      const result = await work(record);
      await this.#options.audit.write(audit);
      return result;
    });
  }

  /** Finds the session that is meant; what fails is in the audit log, and what is done has the row to write with it. */
  async #change<T>(
    { session, action, changes }: SessionChangeRequest,
    actor: UserActor,
    work: (record: SessionRecord, audit: AuditEntry) => Promise<T>,
  ): Promise<T> {
    const { audit } = this.#options;
    const sought = { actor, action, changes, target: { kind: 'session', id: session, domain: null } };
    const record = await audit.within(sought, () => this.find(session, actor, action));
    const { id, name, domainName: domain } = record;
    const found = { ...sought, changes: { session: name, ...changes }, target: { kind: 'session', id, domain } };
    return await audit.within(found, (entry) => work(record, entry));
  }

  async end(sessionId: string, reason: StatusReason, forced: boolean, audit?: AuditEntry): Promise<void> {
    const { transitions, changes } = this.#options;
    const target = { sessionId };
    const requestId = requireRequestId();
    const data = { requestId, ...(forced ? { forced: true } : {}) };
    const change = { target, reason, requestId, data, audit };
    let isRecorded = false;
    // It may be scheduled, or fall back to PENDING, between two statements.
    for (let tries = 0; tries < 3; tries++) {
      const cancelled = await transitions.apply({ ...change, to: 'CANCELLED' });
      const ending = cancelled.length > 0 ? [] : await transitions.apply({ ...change, to: 'TERMINATING' });
      announceAll(changes, cancelled, ending);
      isRecorded = cancelled.length + ending.length > 0;
      if (isRecorded) break;
    }
    if (!forced) return;
    const ended = await transitions.apply({
      ...change,
      from: ['TERMINATING'],
      to: 'TERMINATED',
      keepReasonOfEnding: true,
      audit: isRecorded ? undefined : audit,
    });
    changes.announce(ended.map((each) => ({ ...each, forced: true })));
  }

  /** Marks everything alive as ending. Answers how many. */
  async endAll(reason: StatusReason): Promise<number> {
    const { transitions, changes } = this.#options;
    const requestId = requireRequestId();
    const data = { requestId };
    let count = 0;
    // Sessions on their way from PENDING to SCHEDULED and back are met at the second round.
    for (let round = 0; round < 2; round++) {
      const cancelled = await transitions.apply({ target: {}, to: 'CANCELLED', reason, requestId, data });
      const ending = await transitions.apply({ target: {}, to: 'TERMINATING', reason, requestId, data });
      announceAll(changes, cancelled, ending);
      count += cancelled.length + ending.length;
    }
    return count;
  }

  /** Live sessions by status, of those that the actor may see. */
  countByStatus(actor: UserActor): Promise<Record<string, number>> {
    return this.#options.sessions.countByStatus(scopeOf(actor, 'session:read'));
  }
}

function announceAll(changes: SessionChanges, ...lists: ReadonlyArray<readonly ChangedSession[]>): void {
  for (const list of lists) if (list.length > 0) changes.announce(list);
}

export function actorOf(ctx: CallContext): UserActor {
  if (ctx.actor.kind !== 'user') throw new AppError('auth-missing', 'This call needs a login.');
  return ctx.actor;
}

function targetOf({ userId, domainName: domain, ownerRole }: Owned<SessionRecord>): Target {
  return { userId, domain, ownerRole };
}

function toRef(ref: string): { id: string | null; name: string } {
  return { id: isUuid(ref) ? ref : null, name: ref };
}

/** Without what is the owner's own for those who may only look. */
function detailsFor(actor: UserActor, found: Owned<SessionDetails>): SessionDetailsView {
  const isForLooking = !allow(actor, 'session:use', targetOf(found));
  return toSessionDetails(
    isForLooking ? { ...found, environ: {}, startupCommand: null, bootstrapScript: null } : found,
  );
}

function notFound(ref: string): AppError {
  return new AppError('session-not-found', `There is no session "${ref}".`);
}
