import { addSlots, type Clock, type SessionStatus } from '@backend.ai/core';
import type { AgentSnapshot, PendingSession, Placement, Snapshot } from '@backend.ai/scheduler';
import type { SessionChange } from '../events.ts';
import type { QueueRepository } from '../repositories/queue.ts';
import type { NewSession } from '../repositories/sessions.ts';
import type { AgentDirectory } from '../services/agents/agent-directory.ts';
import { toAgentSnapshot } from '../services/agents/agent-snapshot.ts';
import { pendingOf, queuedOf } from '../services/sessions/pending-session.ts';

interface Waiting {
  readonly session: PendingSession;
  /** Code of the reason in the database. */
  reason: string;
}

interface Refusals {
  readonly count: number;
  readonly agents: readonly string[];
  /** Milliseconds since the epoch, on the clock of this process. */
  readonly notBefore: number;
}

/**
 * The scheduler's view of the cluster between passes, so that a pass for one more session reads nothing. It may be
 * stale: the ledger's SQL refuses what does not hold any more, what is doubtful is read again, and so is everything that
 * was read long ago, because what another manager did may never be heard of.
 */
export class SchedulingMemory {
  readonly #queue: QueueRepository;
  readonly #directory: AgentDirectory;
  readonly #clock: Clock;
  readonly #keptMs: number;
  #readAt: number | undefined;
  #waiting = new Map<string, Waiting>();
  #agents = new Map<string, AgentSnapshot>();
  readonly #refusals = new Map<string, Refusals>();
  /** Failed attempts to place it, and when (monotonic) the last one was counted. */
  readonly #attempts = new Map<string, { count: number; countedAt: number }>();
  #waitingStale = true;
  #agentsStale = true;
  /** What was queued while the queue was being read. */
  #meanwhile: Waiting[] | undefined;

  /** @param keptMs What was read longer ago than this is read again by the next pass. */
  constructor(queue: QueueRepository, directory: AgentDirectory, clock: Clock, keptMs: number) {
    this.#queue = queue;
    this.#directory = directory;
    this.#clock = clock;
    this.#keptMs = keptMs;
  }

  forgetAll(): void {
    this.#waitingStale = true;
    this.#agentsStale = true;
  }

  agentsChanged(): void {
    this.#agentsStale = true;
  }

  /** A session of this process was queued: known without reading. */
  queued(session: NewSession, created: { createdAt: string; projectId: string }): void {
    const queued = queuedOf(session, created);
    if (!queued) {
      this.#waitingStale = true;
      return;
    }
    const waiting: Waiting = { session: queued, reason: 'queued' };
    this.#waiting.set(session.id, waiting);
    this.#meanwhile?.push(waiting);
  }

  /** Takes note of what a change of state means for the next pass. */
  sessionChanged({ sessionId, from, to }: SessionChange): void {
    if (to === 'PENDING') {
      // Its own creation was noted by `queued`; at another manager it was not.
      if (!this.#waiting.has(sessionId)) this.#waitingStale = true;
      if (from !== null && from !== to) this.forgetAll();
      return;
    }
    if (to !== 'SCHEDULED') this.#waiting.delete(sessionId);
    this.#attempts.delete(sessionId);
    // With equal states it is one of its kernels that moved.
    if (endsHolding(to) || from === to) this.#agentsStale = true;
    if (endsHolding(to)) this.#refusals.delete(sessionId);
    if (endsHolding(to) && this.#isWaitedFor(sessionId)) this.#waitingStale = true;
    if (to === 'RUNNING') this.#refusals.delete(sessionId);
  }

  #isWaitedFor(sessionId: string): boolean {
    for (const { session } of this.#waiting.values())
      if (session.dependencies?.some((dependency) => dependency.sessionId === sessionId)) return true;
    return false;
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

  async snapshot(now: number): Promise<Snapshot> {
    this.#forgetOld();
    if (this.#agentsStale) {
      this.#agentsStale = false;
      try {
        this.#agents = await this.#readAgents();
      } catch (error) {
        this.#agentsStale = true;
        throw error;
      }
    }
    if (this.#waitingStale) await this.#readWaiting();
    const pending = [...this.#waiting.values()].map(({ session }) => {
      const refusals = this.#refusals.get(session.sessionId);
      const attempts = this.#attempts.get(session.sessionId)?.count;
      if (!refusals && attempts === undefined) return session;
      return {
        ...session,
        ...(attempts === undefined ? {} : { attempts }),
        ...(refusals ? { notBefore: refusals.notBefore, refusedBy: refusals.agents } : {}),
      };
    });
    return { now, groups: [], agents: [...this.#agents.values()], pending, running: [], quotas: [], fairShares: [] };
  }

  /** The database agreed. */
  placed({ sessionId, kernels }: Placement): void {
    const waiting = this.#waiting.get(sessionId);
    this.#waiting.delete(sessionId);
    for (const { kernelId, agentId } of kernels) {
      const slots = waiting?.session.kernels.find((kernel) => kernel.kernelId === kernelId)?.slots;
      const agent = this.#agents.get(agentId);
      if (slots && agent) this.#agents.set(agentId, { ...agent, used: addSlots(agent.used, slots) });
    }
  }

  /** It was the first that lacked resources. Passes are many: one in the time of a tick counts. */
  attempted(sessionId: string): void {
    const now = this.#clock.monotonic();
    const before = this.#attempts.get(sessionId);
    if (before && now - before.countedAt < this.#keptMs) return;
    this.#attempts.set(sessionId, { count: (before?.count ?? 0) + 1, countedAt: now });
  }

  reasonOf(sessionId: string): string | undefined {
    return this.#waiting.get(sessionId)?.reason;
  }

  reasonWritten(sessionId: string, code: string): void {
    const waiting = this.#waiting.get(sessionId);
    if (waiting) waiting.reason = code;
  }

  #forgetOld(): void {
    const now = this.#clock.monotonic();
    if (this.#readAt !== undefined && now - this.#readAt < this.#keptMs) return;
    this.#readAt = now;
    this.forgetAll();
  }

  async #readAgents(): Promise<Map<string, AgentSnapshot>> {
    const records = await this.#directory.reload();
    return new Map([...records.values()].map((agent) => [agent.id, toAgentSnapshot(agent)]));
  }

  async #readWaiting(): Promise<void> {
    this.#waitingStale = false;
    this.#meanwhile = [];
    try {
      const rows = await this.#queue.pending();
      const waiting = new Map<string, Waiting>();
      for (const row of rows) {
        waiting.set(row.sessionId, { session: pendingOf(row), reason: row.reason });
      }
      for (const entry of this.#meanwhile)
        if (!waiting.has(entry.session.sessionId)) waiting.set(entry.session.sessionId, entry);
      this.#waiting = waiting;
    } catch (error) {
      this.#waitingStale = true;
      throw error;
    } finally {
      this.#meanwhile = undefined;
    }
  }
}

function endsHolding(status: SessionStatus): boolean {
  return status === 'TERMINATED' || status === 'ERROR' || status === 'CANCELLED';
}
