import type { Dotfile } from '@backend.ai/contract';
import type {
  AgentId,
  KernelId,
  KernelStatus,
  SessionId,
  SessionResult,
  SessionStatus,
  StatusReason,
} from '@backend.ai/core';
import { kernelSourcesOf, sourcesOf } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import type { AuditEntry } from './audit.ts';
import { type PlacementWrite, placement } from './placement-sql.ts';
import { admission, type ReservationWrite, reservation } from './reservation-sql.ts';
import type { SessionOptions } from './session-rows.ts';
import { kernelChange, sessionChange } from './transition-sql.ts';

/**
 * Every change of state goes through this class, each of them one statement (`transition-sql.ts`, and
 * `placement-sql.ts` for the way out of the queue). It locks a session and then its kernels, checks where they are,
 * moves them, writes history, and settles the ledger for kernels that hold nothing any more. A statement is atomic, so
 * there is no half of it after a crash; no rows mean that somebody else was there first.
 *
 * All times are the database's. The id of a kernel is that of one attempt to start it: going back to PENDING gives a new
 * one, so that whatever an agent still does or says about the attempt that was given up concerns a kernel that nobody
 * knows.
 */

/** Which sessions or kernels a change is for. Conditions are added up. */
export interface TransitionTarget {
  readonly sessionId?: string;
  readonly kernelId?: string;
  /** The kernel must be with this agent; of a session: one of its kernels. */
  readonly agentId?: string;
  /** Only those whose session came to its present state longer ago. */
  readonly olderThanMs?: number;
  /** Only those whose agent (of a session: that of one of its kernels) has been lost for longer. */
  readonly agentLostForMs?: number;
  /** Only those whose agent is not among the known ones. */
  readonly agentForgotten?: boolean;
  /** Only sessions that have waited longer than their resource group lets them. */
  readonly waitedTooLong?: boolean;
  /** Only sessions of which no kernel (false: of which any kernel) is left. */
  readonly kernelsEnded?: boolean;
  /** Only sessions that were made to leave in this way. */
  readonly preemption?: 'terminate' | 'reschedule';
}

interface ChangeOptions {
  readonly target: TransitionTarget;
  readonly reason: StatusReason;
  /** Keeps the reason of TERMINATING: it says why the session ends, the new one only that it did. */
  readonly keepReasonOfEnding?: boolean;
  readonly data?: Record<string, unknown>;
  /** For history; the session's own when absent. */
  readonly requestId?: string;
  /** Written to the audit log if anything moves. */
  readonly audit?: AuditEntry | undefined;
  /** Given by leaders: with a newer leader elected nothing changes. */
  readonly epoch?: number;
  /** Given with an agent's event: one that was counted before changes nothing. */
  readonly event?: EventGuard;
}

/** Moves sessions, which take their kernels along. */
export interface TransitionOptions extends ChangeOptions {
  readonly to: SessionStatus;
  /** Narrows the states that may be left; all that the table allows when absent. */
  readonly from?: readonly SessionStatus[];
  /** Of a batch job. */
  readonly result?: SessionResult;
  /** The priority gets lower by this, and never below 0. */
  readonly lowerPriorityBy?: number;
}

/** Moves kernels; their sessions follow as `promotions` say. */
export interface KernelTransitionOptions extends ChangeOptions {
  readonly to: KernelStatus;
  readonly from?: readonly KernelStatus[];
  /** Merged into what is known of the kernel. */
  readonly kernelData?: Record<string, unknown>;
  readonly exitCode?: number | null;
}

export interface EventGuard {
  readonly agentId: string;
  readonly seq: number;
  /** Count it in this very statement, if it changes something; false for the steps before the last one. */
  readonly count: boolean;
}

/** A session that moved, or (with equal `from` and `to`) of which a kernel did. */
export interface ChangedSession {
  readonly sessionId: SessionId;
  /** The kernel that the change came from, or the main one; as it was before: one that went back to PENDING has a new id. */
  readonly kernelId: KernelId;
  readonly agentId: AgentId | null;
  readonly name: string;
  readonly accessKey: string;
  readonly from: SessionStatus;
  readonly to: SessionStatus;
  readonly reason: string;
  /** Of the request that made the session. */
  readonly requestId: string;
  /** Where each kernel that moved was, with the agent that had it. */
  readonly kernels: ReadonlyArray<{
    readonly kernelId: string;
    readonly agentId: string | null;
    readonly from: KernelStatus;
  }>;
}

/** A session that moved without its kernels. */
export type MovedSession = Omit<ChangedSession, 'kernels'>;

/** What an agent needs to start a kernel. */
export interface StartableKernel extends MovedSession {
  readonly image: string;
  readonly clusterRole: 'main' | 'sub';
  readonly clusterIndex: number;
  readonly hostname: string;
  readonly slots: Record<string, string>;
  readonly environ: Record<string, string>;
  readonly options: SessionOptions;
  /** Of its key pair; null: none. */
  readonly dotfiles: Dotfile[] | null;
  /** Number of kernels of its session. */
  readonly clusterSize: number;
}

export class SessionTransitions {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Moves sessions that are in the right state; tells which moved. */
  async apply(options: TransitionOptions): Promise<ChangedSession[]> {
    const allowed = sourcesOf(options.to);
    const from = options.from?.filter((status) => allowed.includes(status)) ?? allowed;
    const rows = await this.#db.execute<ChangedSession & Record<string, unknown>>(
      sql`${sessionChange(options, from)} ${changedRows}`,
    );
    return [...rows];
  }

  /** Moves kernels that are in the right state, and their sessions as far as that leads; tells which changed. */
  async applyToKernels(options: KernelTransitionOptions): Promise<ChangedSession[]> {
    const allowed = kernelSourcesOf(options.to);
    const from = options.from?.filter((status) => allowed.includes(status)) ?? allowed;
    const rows = await this.#db.execute<ChangedSession & Record<string, unknown>>(
      sql`${kernelChange(options, from)} ${changedRows}`,
    );
    return [...rows];
  }

  /**
   * PENDING → SCHEDULED → PREPARING with the resources of every kernel taken from its agent: all of them or none. The
   * caller orders them at once; should it die before that, whoever leads next finds them PREPARING and asks the agents.
   * Empty: it is not pending any more, or an agent has not enough, or somebody else leads.
   */
  async place(write: PlacementWrite): Promise<StartableKernel[]> {
    return [...(await this.#db.execute<StartableKernel & Record<string, unknown>>(placement(write)))];
  }

  /**
   * PENDING → RESERVED, with what it asks for announced at its agents, and its victims → PREEMPTED: all of it or nothing.
   * Empty: something is not as it was when this was decided. Tells of all that moved.
   */
  async reserve(write: ReservationWrite): Promise<MovedSession[]> {
    return [...(await this.#db.execute<MovedSession & Record<string, unknown>>(reservation(write)))];
  }

  /** RESERVED → SCHEDULED → PREPARING when what was announced is free. Empty: it is not, or somebody else leads. */
  async admit(write: { readonly sessionId: string; readonly epoch: number }): Promise<StartableKernel[]> {
    return [...(await this.#db.execute<StartableKernel & Record<string, unknown>>(admission(write)))];
  }
}

const changedRows = sql.raw(`
  select t.id as "sessionId", m.id as "kernelId", m.agent_id as "agentId", c.name, c.access_key as "accessKey",
    t.from_status as "from", c.status as "to", c.status_reason as "reason", t.request_id as "requestId",
    (select jsonb_agg(jsonb_build_object('kernelId', a.id, 'agentId', a.agent_id, 'from', a.from_status))
      from moved a where a.session_id = t.id and a.moves) as kernels
  from target t join changed c on c.id = t.id
  join lateral (select * from moved m where m.session_id = t.id
    order by m.selected desc, m.cluster_role, m.cluster_index limit 1) m on true`);
