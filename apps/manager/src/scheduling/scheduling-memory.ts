import type { Clock, SessionStatus } from '@backend.ai/core';
import {
  givingUpDefaults,
  type PendingSession,
  type Placement,
  type Plan,
  type Reservation,
  type RunningSession,
  SchedulingState,
  type Snapshot,
} from '@backend.ai/scheduler';
import type { SessionChange } from '../events.ts';
import type { NewSession } from '../repositories/sessions.ts';
import { pendingOf, queuedOf } from '../services/sessions/pending-session.ts';
import type { SchedulingReader } from './scheduling-reader.ts';
import { isEnding } from './scheduling-rules.ts';

interface Refusals {
  readonly count: number;
  readonly agents: readonly string[];
  /** Milliseconds since the epoch, on the clock of this process. */
  readonly notBefore: number;
}

const checksBetweenReads = 12;
const nothing = { groups: [], agents: [], pending: [], running: [], quotas: [], fairShares: [] };

/**
 * The scheduler's view of the cluster between passes, so that a pass after one change reads nothing and costs that change.
 * It may be stale: the ledger's SQL refuses what does not hold any more, what is doubtful is read again, and so is, with
 * every tick, whatever others have changed, because what another manager did may never be heard of.
 */
export class SchedulingMemory {
  readonly #reader: SchedulingReader;
  readonly #clock: Clock;
  readonly #keptMs: number;
  #state = new SchedulingState(nothing);
  #checkedAt: number | undefined;
  #checks = 0;
  /** Those that wait and depend on others. */
  readonly #dependent = new Map<string, PendingSession>();
  /** Sessions whose place others still hold, in the order of their reservations, with their agents. */
  readonly #awaiting = new Map<string, readonly string[]>();
  /** Next agents of groups with `roundrobin`. */
  readonly #roundRobin = new Map<string, number>();
  readonly #refusals = new Map<string, Refusals>();
  /** Failed attempts to place it, and when (monotonic) the last one was counted. */
  readonly #attempts = new Map<string, { count: number; countedAt: number }>();
  readonly #stale = { waiting: true, cluster: true, rules: true, warm: false };
  /** Sessions that wait and have to be read, each by itself. */
  readonly #unread = new Set<string>();
  /** What was heard while something was being read: what was read may not have it yet. */
  #meanwhile: Array<() => void> | undefined;

  /** @param keptMs After so long the next pass asks whether others have changed something. */
  constructor(reader: SchedulingReader, clock: Clock, keptMs: number) {
    this.#reader = reader;
    this.#clock = clock;
    this.#keptMs = keptMs;
  }

  /** Everything is doubtful. */
  forgetAll(): void {
    Object.assign(this.#stale, { waiting: true, cluster: true, rules: true });
    this.#reader.forgetUsage();
  }

  agentsChanged(): void {
    this.#stale.cluster = true;
  }

  /** Warm slots came, became ready or went. */
  warmSlotsChanged(): void {
    this.#stale.warm = true;
  }

  /** A registry may have gone, and with it where images of waiting sessions come from. */
  imagesChanged(): void {
    this.#stale.waiting = true;
  }

  /** Options of groups, limits of policies, tenants. */
  rulesChanged(): void {
    this.#stale.rules = true;
  }

  /** A session of this process was queued: known without reading. */
  queued(session: NewSession, created: { createdAt: string; projectId: string }): void {
    const queued = queuedOf(session, created);
    if (!queued) {
      this.#unread.add(session.id);
      return;
    }
    this.#apply(() => this.#enqueue(queued, 'queued'));
  }

  /** Takes note of what a change of state means for the next pass. */
  sessionChanged({ sessionId, from, to }: SessionChange): void {
    if (to === 'PENDING') {
      if (from === to) return;
      // Its own creation was noted by `queued`; at another manager it was not.
      if (from === null && this.#state.waiting(sessionId)) return;
      this.#unread.add(sessionId);
      this.#apply(() => this.#ended(sessionId));
      return;
    }
    this.#attempts.delete(sessionId);
    if (from === to) {
      // One of its kernels moved, and may have given back its part.
      this.#stale.cluster = true;
      return;
    }
    if (endsHolding(to) || to === 'RUNNING') this.#refusals.delete(sessionId);
    // Not known to hold anything, or read at the same time: what agents have in use may be older than this.
    const known = this.#state.running(sessionId) ?? this.#state.waiting(sessionId);
    if (endsHolding(to) && (!known || this.#meanwhile)) this.#stale.cluster = true;
    this.#apply(() => {
      if (to !== 'SCHEDULED') this.#dequeue(sessionId);
      if (endsHolding(to)) this.#ended(sessionId);
      else this.#runningChanged(sessionId, to);
    });
    if (!endsHolding(to)) return;
    for (const [id, { dependencies = [] }] of this.#dependent)
      if (dependencies.some((dependency) => dependency.sessionId === sessionId)) this.#unread.add(id);
  }

  /** An agent refused: wait longer each time, and try others first. */
  refused(sessionId: string, agentId: string, notBefore: (count: number) => number): number {
    const before = this.#refusals.get(sessionId);
    const count = (before?.count ?? 0) + 1;
    const entry = {
      count,
      agents: [...new Set([...(before?.agents ?? []), agentId])],
      notBefore: notBefore(before?.count ?? 0),
    };
    this.#refusals.set(sessionId, entry);
    return entry.notBefore;
  }

  /** Reads what is doubtful. */
  async refresh(): Promise<void> {
    // Those that were heard of are no reason to read the whole queue.
    if (this.#unread.size > 0 && !this.#stale.waiting) await this.#readDoubtful();
    await this.#askWhetherOthersChanged();
    await this.#readDoubtful();
  }

  async #readDoubtful(): Promise<void> {
    // What they wait for may have ended.
    if (this.#stale.cluster) for (const id of this.#dependent.keys()) this.#unread.add(id);
    const { waiting, cluster, rules, warm } = { ...this.#stale };
    if (!waiting && !cluster && !rules && !warm && this.#unread.size === 0) return;
    const unread = [...this.#unread];
    Object.assign(this.#stale, { waiting: false, cluster: false, rules: false, warm: false });
    this.#unread.clear();
    this.#meanwhile = [];
    const reader = this.#reader;
    try {
      const records = waiting ? await reader.pending() : unread.length > 0 ? await reader.pending(unread) : [];
      const pending = records.map(({ reason, ...record }) => ({ session: pendingOf(record), reason }));
      const newOwner = pending.some(({ session }) => !reader.knowsOwner(session.owner));
      const readRules = rules || newOwner ? await reader.rules() : undefined;
      const readCluster = cluster ? await reader.cluster() : undefined;
      const readSlots = warm && !cluster ? await reader.warmSlots() : undefined;
      if (waiting || cluster) this.#replace(readCluster, waiting ? pending : undefined);
      if (readRules)
        this.#state.setRules({ ...readRules, groups: readRules.groups.map((group) => this.#going(group)) });
      if (!waiting) for (const { session, reason } of pending) this.#enqueue(session, reason);
      if (readSlots) this.#state.setWarmSlots(readSlots);
    } catch (error) {
      Object.assign(this.#stale, {
        waiting: waiting || this.#stale.waiting,
        cluster: cluster || this.#stale.cluster,
        rules: rules || this.#stale.rules,
        warm: warm || this.#stale.warm,
      });
      for (const sessionId of unread) this.#unread.add(sessionId);
      throw error;
    } finally {
      const heard = this.#meanwhile;
      this.#meanwhile = undefined;
      for (const repeat of heard) repeat();
    }
  }

  async snapshot(now: number): Promise<Snapshot> {
    await this.refresh();
    return this.#state.snapshot(now);
  }

  /** What it knows, without reading, to be asked only; undefined while something of it is doubtful. */
  get known(): Pick<SchedulingState, 'snapshot' | 'waiting' | 'explain'> | undefined {
    const { waiting, cluster, rules } = this.#stale;
    return waiting || cluster || rules || this.#unread.size > 0 ? undefined : this.#state;
  }

  /** The same object as before while nothing has changed. */
  plan(now: number): Plan {
    return this.#state.plan(now);
  }

  get queueLength(): number {
    return this.#state.queueLength;
  }

  /** Sessions whose place others still hold, in the order of their reservations, with their agents. */
  get awaiting(): ReadonlyMap<string, readonly string[]> {
    return this.#awaiting;
  }

  waiting(sessionId: string): PendingSession | undefined {
    return this.#state.waiting(sessionId);
  }

  /** The database agreed. */
  placed(placement: Placement): void {
    this.#forgetWaiting(placement.sessionId);
    this.#state.placed(placement);
  }

  /** The database agreed. */
  reserved(reservation: Reservation): void {
    this.#forgetWaiting(reservation.sessionId);
    this.#state.reserved(reservation);
    this.#awaiting.set(
      reservation.sessionId,
      reservation.kernels.map(({ agentId }) => agentId),
    );
  }

  /** The database agreed. */
  admitted(sessionId: string): void {
    this.#awaiting.delete(sessionId);
    this.#state.admitted(sessionId);
  }

  planned({ roundRobin }: Plan): void {
    const next = Object.entries(roundRobin);
    if (next.length === 0) return;
    for (const [group, index] of next) this.#roundRobin.set(group, index);
    this.#state.advanceRoundRobin(roundRobin);
  }

  /**
   * It was the first that lacked resources. Passes are many: one in the interval of its group counts.
   * @returns how often now, if this one counts
   */
  attempted(sessionId: string): number | undefined {
    const now = this.#clock.monotonic();
    const before = this.#attempts.get(sessionId);
    const session = this.#state.waiting(sessionId);
    const group = session && this.#state.group(session.resourceGroup);
    const intervalMs = group?.attemptIntervalMs ?? givingUpDefaults.intervalMs;
    if (before && now - before.countedAt < intervalMs) return undefined;
    // Another may have led meanwhile, and have counted on.
    const count = Math.max(before?.count ?? 0, session?.attempts ?? 0) + 1;
    this.#attempts.set(sessionId, { count, countedAt: now });
    if (session) this.#state.queue(this.#withPast(session));
    return count;
  }

  /** The code of the reason in the database, of one that waits. */
  reasonOf(sessionId: string): string | undefined {
    return this.#state.toldTo(sessionId);
  }

  reasonWritten(sessionId: string, code: string): void {
    this.#state.tell(sessionId, code);
  }

  /** Reasons of the plan that are not in the database yet, and when one of all ends by itself (Infinity: none does). */
  news(now: number): ReturnType<SchedulingState['news']> {
    return this.#state.news(now);
  }

  async #askWhetherOthersChanged(): Promise<void> {
    const now = this.#clock.monotonic();
    if (this.#checkedAt !== undefined && now - this.#checkedAt < this.#keptMs) return;
    const changed = await this.#reader.changed(this.#state.snapshot(0));
    this.#checkedAt = now;
    this.#checks += 1;
    for (const part of changed) this.#stale[part] = true;
    // Amounts are not compared: now and then they are read all the same.
    if (this.#checks % checksBetweenReads === 0) this.#stale.cluster = true;
  }

  /** Now, and again after what is being read. */
  #apply(change: () => void): void {
    change();
    this.#meanwhile?.push(change);
  }

  #enqueue(session: PendingSession, reason: string): void {
    const known = this.#withPast(session);
    this.#state.queue(known);
    this.#state.tell(session.sessionId, reason);
    if (session.dependencies) this.#dependent.set(session.sessionId, known);
    if (!this.#reader.knowsOwner(session.owner)) this.#stale.rules = true;
  }

  #dequeue(sessionId: string): void {
    this.#forgetWaiting(sessionId);
    this.#state.unqueue(sessionId);
  }

  #forgetWaiting(sessionId: string): void {
    this.#dependent.delete(sessionId);
  }

  #ended(sessionId: string): void {
    this.#awaiting.delete(sessionId);
    this.#state.ended(sessionId);
  }

  #runningChanged(sessionId: string, to: SessionStatus): void {
    const running = this.#state.running(sessionId);
    if (!running) return;
    if (to === 'RUNNING' && running.startedAt === undefined)
      this.#state.setRunning({ ...running, startedAt: this.#clock.now() });
    else if (isEnding(to) && !running.ending) this.#state.setRunning({ ...running, ending: true });
  }

  /** With what happened to it before: attempts, and agents that refused it, which are not preferred any more. */
  #withPast(session: PendingSession): PendingSession {
    const refusals = this.#refusals.get(session.sessionId);
    const written = session.attempts ?? 0;
    const attempts = Math.max(this.#attempts.get(session.sessionId)?.count ?? 0, written);
    if (!refusals && attempts === written) return session;
    // An agent that refused may have done so because of the slot.
    const { designated, warmKey, ...others } = session;
    const rest = refusals || warmKey === undefined ? others : { ...others, warmKey };
    const left =
      designated?.mode === 'preferred' && refusals
        ? designated.agents.filter((agent) => !refusals.agents.includes(agent))
        : designated?.agents;
    return {
      ...rest,
      ...(designated && left && left.length > 0 ? { designated: { ...designated, agents: left } } : {}),
      ...(attempts > 0 ? { attempts } : {}),
      ...(refusals ? { notBefore: refusals.notBefore, refusedBy: refusals.agents } : {}),
    };
  }

  #going<Group extends { readonly name: string }>(group: Group): Group {
    const roundRobin = this.#roundRobin.get(group.name);
    return roundRobin === undefined ? group : { ...group, roundRobin };
  }

  #replace(
    cluster: Awaited<ReturnType<SchedulingReader['cluster']>> | undefined,
    pending: ReadonlyArray<{ readonly session: PendingSession; readonly reason: string }> | undefined,
  ): void {
    const sessions = pending?.map(({ session }) => this.#withPast(session));
    const before = this.#state;
    this.#state = new SchedulingState({
      ...this.#state.snapshot(0),
      ...cluster,
      ...(sessions ? { pending: sessions } : {}),
    });
    if (pending) {
      for (const { session, reason } of pending) this.#state.tell(session.sessionId, reason);
      this.#dependent.clear();
      for (const { session } of pending) if (session.dependencies) this.#dependent.set(session.sessionId, session);
    } else {
      for (const { sessionId } of before.snapshot(0).pending) {
        const reason = before.toldTo(sessionId);
        if (reason !== undefined) this.#state.tell(sessionId, reason);
      }
    }
    if (!cluster) return;
    this.#awaiting.clear();
    for (const { sessionId, awaitsVictims, kernels } of cluster.running)
      if (awaitsVictims) this.#awaiting.set(sessionId, agentsOf(kernels));
  }
}

function agentsOf(kernels: RunningSession['kernels']): string[] {
  return kernels.map(({ agentId }) => agentId);
}

function endsHolding(status: SessionStatus): boolean {
  return status === 'TERMINATED' || status === 'ERROR' || status === 'CANCELLED';
}
