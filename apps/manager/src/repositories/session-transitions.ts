import type { Dotfile, DotfileOwnerKind, EgressPolicy } from '@backend.ai/contract';
import type {
  AgentId,
  KernelId,
  KernelStatus,
  SessionId,
  SessionResult,
  SessionStatus,
  StatusReason,
} from '@backend.ai/core';
import { isTerminal, kernelSourcesOf, Lane, sourcesOf } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import type { AuditEntry } from './audit.ts';
import { Gathered } from './gathered.ts';
import { type PlacementWrite, placement, type Term } from './placement-sql.ts';
import { admission, type ReservationWrite, reservation } from './reservation-sql.ts';
import type { SessionOptions } from './session-rows.ts';
import { factChange, kernelChange, sessionChange } from './transition-sql.ts';

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
}

/** One way in which what agents tell moves kernels. Constant: what is told in the same way is written together. */
export interface KernelFactKind {
  /** The kernel, which its session follows as `promotions` say; or the session, which takes its kernels along. */
  readonly moves: 'kernels' | 'sessions';
  readonly to: KernelStatus;
  /** Of what moves. */
  readonly from: readonly KernelStatus[] | readonly SessionStatus[];
  readonly keepReasonOfEnding?: boolean;
  /** Sessions of one kernel may come from these as well, by way of a state whose event need not have been told. */
  readonly passes?: { readonly from: readonly KernelStatus[]; readonly by: KernelStatus };
}

/** What an agent tells of one of its kernels. */
export interface KernelFact {
  readonly agentId: string;
  readonly kernelId: string;
  readonly reason: StatusReason;
  readonly requestId: string;
  readonly data?: Record<string, unknown>;
  /** Merged into what is known of the kernel. */
  readonly kernelData?: Record<string, unknown>;
  /** Kept unless one is known of the kernel already: a job's, which ended before its kernel. */
  readonly exitCode?: number | null;
  /** Of a batch job. */
  readonly result?: SessionResult;
  /** Given with an event: one that was counted before changes nothing. */
  readonly event?: EventGuard | undefined;
}

export interface EventGuard {
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
  /** Number of its kernels. */
  readonly clusterSize: number;
  /** Where each kernel that moved was, with the agent that had it. */
  readonly kernels: ReadonlyArray<{
    readonly kernelId: string;
    readonly agentId: string | null;
    readonly from: KernelStatus;
  }>;
}

/** A session that moved without its kernels. */
export type MovedSession = Omit<ChangedSession, 'kernels' | 'clusterSize'>;

/** For a registry, as they are in the database. */
export interface StoredCredentials {
  /** Of the registry. */
  readonly id: string;
  readonly username: string | null;
  readonly passwordEncrypted: string | null;
}

export interface OwnedDotfile extends Dotfile {
  readonly owner: DotfileOwnerKind;
}

/** What an agent needs to start a kernel. */
export interface StartableKernel extends MovedSession {
  readonly image: string;
  readonly clusterRole: 'main' | 'sub';
  readonly clusterIndex: number;
  readonly hostname: string;
  readonly slots: Record<string, string>;
  readonly environ: Record<string, string>;
  readonly options: SessionOptions;
  /** Of its key pair, project and domain; null: none. */
  readonly dotfiles: OwnedDotfile[] | null;
  /** Of its resource group; null: it does not say. */
  readonly allowFractionalResourceFragmentation: boolean | null;
  /** Of its resource group now; null: that is gone. */
  readonly egress: EgressPolicy | null;
  /** Which image it is to be, and who has it; null: some agents do. */
  readonly imageDigest: string | null;
  readonly imageManifestDigest: string | null;
  readonly imageRegistry: StoredCredentials | null;
  /** Number of kernels of its session. */
  readonly clusterSize: number;
  /** It took a warm slot, or others had to go for it. Absent of one that was placed earlier. */
  readonly warmSlotsChanged?: boolean;
}

/** Facts of one statement at most. */
const most = 64;

export class SessionTransitions {
  readonly #db: Database;
  readonly #facts = new Map<KernelFactKind, Gathered<KernelFact, ChangedSession>>();
  /** Placements and ends change the balances of the same agents: in one statement at a time, none has to be repeated. */
  readonly #balances = new Lane();

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

  /** Moves a kernel of which its agent tells something, together with others of which the same is told at this moment. */
  async tell(kind: KernelFactKind, fact: KernelFact): Promise<ChangedSession[]> {
    let facts = this.#facts.get(kind);
    if (!facts) {
      const work = (items: readonly KernelFact[]) => this.#write(kind, items);
      facts = new Gathered({ work, most, ...(isTerminal(kind.to) ? { lane: this.#balances } : {}) });
      this.#facts.set(kind, facts);
    }
    const changed = await facts.add(fact);
    return changed === undefined ? [] : [changed];
  }

  async #write(kind: KernelFactKind, facts: readonly KernelFact[]): Promise<Array<ChangedSession | undefined>> {
    const rows = await this.#db.execute<ChangedSession & { nth: number } & Record<string, unknown>>(
      sql`${factChange(kind, facts)} ${changedRows}`,
    );
    const changed = new Array<ChangedSession | undefined>(facts.length).fill(undefined);
    for (const { nth, ...row } of rows) changed[nth] = row;
    return changed;
  }

  /**
   * PENDING → SCHEDULED → PREPARING with the resources of every kernel taken from its agent: all of them or none. The
   * caller orders them at once; should it die before that, whoever leads next finds them PREPARING and asks the agents.
   * Empty: it is not pending any more, or an agent has not enough, or somebody else leads.
   */
  async place({ epoch, ...write }: PlacementWrite & Term): Promise<StartableKernel[]> {
    return (await this.placeAll([write], epoch)).get(write.sessionId) ?? [];
  }

  /**
   * The same for many sessions in one statement, all or nothing for each, in their order. A session for which there might
   * not be enough besides those before it is left out, whether they are placed or not: it has to be tried by itself.
   */
  async placeAll(writes: readonly PlacementWrite[], epoch: number): Promise<Map<string, StartableKernel[]>> {
    const rows = await this.#balances.follow(() =>
      this.#db.execute<StartableKernel & Record<string, unknown>>(placement(writes, epoch)),
    );
    const placed = new Map<string, StartableKernel[]>();
    for (const row of rows) placed.set(row.sessionId, [...(placed.get(row.sessionId) ?? []), row]);
    return placed;
  }

  /**
   * PENDING → RESERVED, with what it asks for announced at its agents, and its victims → PREEMPTED: all of it or nothing.
   * Empty: something is not as it was when this was decided. Tells of all that moved.
   */
  async reserve(write: ReservationWrite & Term): Promise<MovedSession[]> {
    return [...(await this.#db.execute<MovedSession & Record<string, unknown>>(reservation(write)))];
  }

  /** RESERVED → SCHEDULED → PREPARING when what was announced is free. Empty: it is not, or somebody else leads. */
  async admit(write: { readonly sessionId: string } & Term): Promise<StartableKernel[]> {
    return [...(await this.#db.execute<StartableKernel & Record<string, unknown>>(admission(write)))];
  }
}

const changedRows = sql.raw(`
  select t.nth, t.id as "sessionId", m.id as "kernelId", m.agent_id as "agentId", c.name, c.access_key as "accessKey",
    t.from_status as "from", c.status as "to", c.status_reason as "reason", t.request_id as "requestId",
    t.cluster_size as "clusterSize",
    (select jsonb_agg(jsonb_build_object('kernelId', a.id, 'agentId', a.agent_id, 'from', a.from_status))
      from moved a where a.session_id = t.id and a.moves) as kernels
  from target t join changed c on c.id = t.id
  join lateral (select * from moved m where m.session_id = t.id
    order by m.selected desc, m.cluster_role, m.cluster_index limit 1) m on true`);
