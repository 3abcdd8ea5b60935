import type { AgentObstacle, ErrorCode, SessionStatus, StatusReason } from '@backend.ai/core';

/**
 * Why a session waits, what would let it start, when that is expected; or why it was placed where it is.
 *
 * Users see themselves, numbers and amounts; ids of agents are for those who may read agents, and sessions of others are
 * only counted. The codes are the scheduler's: the manager does not compile when the two differ.
 */

/** Sessions in an explanation: those that the caller may see, and how many there are besides. */
export interface MentionedSessions {
  readonly known: ReadonlyArray<{ readonly id: string; readonly name: string }>;
  readonly others: number;
}

/** Null: for those who may not read agents. */
export type MentionedAgents = readonly string[] | null;

/** Of slots that were asked for: what was asked, and the most that one agent has. */
export type LackingView = Readonly<Record<string, { readonly asked: string; readonly mostFree: string }>>;

export interface QuotaViolationView {
  readonly scope: 'keypair' | 'user' | 'project' | 'domain';
  readonly id: string;
  /** A slot, or `sessions` or `private-sessions` for their number. */
  readonly slot: string;
  readonly asked: string;
  readonly used: string;
  readonly limit: string;
}

interface Reason<Code extends StatusReason, Data> {
  readonly code: Code;
  /** One sentence with the figures. */
  readonly message: string;
  readonly data: Data;
}

/** What the agent said that refused last. */
export interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
}

/** A rule that the session does not pass now. */
export type WaitingReasonView =
  | Reason<
      'agent-refused',
      { readonly nextTryAt: string; readonly agents: MentionedAgents; readonly error: Refusal | null }
    >
  | Reason<'starts-later', { readonly startsAt: string }>
  | Reason<'dependency-unfinished', { readonly sessions: MentionedSessions }>
  | Reason<'dependency-failed', { readonly sessions: MentionedSessions }>
  | Reason<'quota-exceeded', { readonly violations: readonly QuotaViolationView[] }>
  | Reason<'no-agent', { readonly resourceGroup: string }>
  | Reason<'no-agent-alive', { readonly resourceGroup: string }>
  | Reason<'no-agent-enforces-egress', { readonly resourceGroup: string }>
  | Reason<'no-agent-of-architecture', { readonly architecture: string }>
  | Reason<'no-agent-with-image', { readonly image: string; readonly architecture: string }>
  | Reason<'designated-agent-unavailable', { readonly agents: MentionedAgents }>
  | Reason<'exceeds-agents', { readonly lacking: LackingView }>
  | Reason<'insufficient-resources', { readonly lacking: LackingView }>
  | Reason<'kernel-limit-reached', { readonly limit: number }>
  | Reason<'no-common-network', { readonly resourceGroup: string }>
  | Reason<'behind-head-of-line', { readonly head: MentionedSessions }>
  | Reason<'pending-timeout', { readonly resourceGroup: string }>;
export type WaitingCode = WaitingReasonView['code'];

interface ChangeOf<Kind extends string, Facts = unknown> {
  readonly kind: Kind;
  /** A few words that complete "It would start …". */
  readonly text: string;
  readonly facts: Facts;
}

/** One thing that somebody can do, or that happens. */
export type HelpfulChange =
  /** `sessions` have run for long enough by then to make room for it; absent: nobody has to. */
  | ChangeOf<'wait-until', { readonly at: string; readonly sessions?: MentionedSessions }>
  | ChangeOf<'wait-for-dependencies', { readonly sessions: MentionedSessions }>
  | ChangeOf<'drop-dependencies', { readonly sessions: MentionedSessions }>
  | ChangeOf<'raise-quota', QuotaViolationView & { readonly to: string }>
  | ChangeOf<'go-first', { readonly priority: number }>
  | ChangeOf<'wait-for-queue', { readonly ahead: number }>
  | ChangeOf<'wait-for-sessions', { readonly sessions: MentionedSessions }>
  | ChangeOf<
      'reduce-request',
      { readonly kernelId: string; readonly slot: string; readonly from: string; readonly to: string }
    >
  | ChangeOf<
      'add-agent',
      {
        readonly count: number;
        readonly architecture: string;
        readonly images: readonly string[];
        readonly slots: Readonly<Record<string, string>>;
      }
    >
  | ChangeOf<'drop-designation', Readonly<Record<string, never>>>
  | ChangeOf<'raise-kernel-limit', { readonly to: number }>;

export interface AgentReasonView {
  /** Null: for those who may not read agents. */
  readonly agent: string | null;
  /** Empty: it can take the session, or a kernel of one over several nodes. */
  readonly obstacles: readonly AgentObstacle[];
  readonly lacking: Readonly<
    Record<string, { readonly asked: string; readonly free: string; readonly capacity: string }>
  >;
}

/** Sessions that preemption would end for one that waits. */
export interface PreemptionView {
  /** Whether they are ended, or go back to the queue. */
  readonly mode: 'terminate' | 'reschedule';
  /** False: it would be so if nothing besides resources stood in its way, and it were its turn. */
  readonly byNextPass: boolean;
  /** They have to run until then before they may be made to leave; null: they have. */
  readonly from: string | null;
  /** All of them. */
  readonly sessions: MentionedSessions;
  /** Agents where it would go, and those where the others have kernels. */
  readonly agents: ReadonlyArray<{
    /** Null: for those who may not read agents. */
    readonly agent: string | null;
    /** Kernels of the session that would go there. */
    readonly placed: number;
    /** Kernels of others that would end there. */
    readonly ended: number;
    /** Those who have kernels there. */
    readonly sessions: MentionedSessions;
  }>;
}

export interface WaitingExplanation {
  readonly resourceGroup: string;
  readonly policy: 'fifo' | 'lifo' | 'drf' | 'fair-share';
  /** In the queue of its group, from 1. */
  readonly position: number;
  readonly queueLength: number;
  /** What it was queued with, and what is left of it: after many failed attempts at the head of its queue it has less. */
  readonly priority: { readonly asked: number; readonly now: number };
  /** Every rule that it does not pass now, also those behind the first; empty: the next pass places it. */
  readonly reasons: readonly WaitingReasonView[];
  /** Of its resource group. */
  readonly agents: {
    readonly total: number;
    /** Those that could take it. */
    readonly open: number;
    /** How many have which obstacle; an agent may have several. */
    readonly byObstacle: ReadonlyArray<{ readonly obstacle: AgentObstacle; readonly agents: number }>;
    /** Those with the fewest obstacles, then those that lack least; at most 20. */
    readonly nearest: readonly AgentReasonView[];
  };
  /** Ways in which it would start with the next pass, smallest first. All changes of a way are needed. */
  readonly ways: ReadonlyArray<readonly HelpfulChange[]>;
  /** Null: its group does not preempt, or that would not help. */
  readonly preemption: PreemptionView | null;
  readonly estimate: {
    /** Null: nobody knows. */
    readonly at: string | null;
    /**
     * `next-pass`: nothing stands in its way. `start-moment`: it asked for that. `time-limits`: sessions that hold what it
     * and those before it need have ended by then. `preemption`: others have run for long enough by then to make room.
     * `history`: as sessions started in its group lately.
     */
    readonly basis: 'next-pass' | 'start-moment' | 'time-limits' | 'preemption' | 'history' | 'unknown';
  };
}

/** Why one unit (the whole session, or a kernel of one over several nodes) was placed on its agent. */
export interface PlacementDecision {
  readonly agentId: string;
  readonly strategy: 'concentrated' | 'dispersed' | 'roundrobin' | 'legacy';
  /** Agents of the group that were open and could start the image. */
  readonly suitable: number;
  /** Those of them that had room. */
  readonly candidates: number;
  /** 1 for what counted against the agent: not one of those preferred, refused the session before. */
  readonly rank: readonly [notPreferred: number, refusedBefore: number];
  /** What agents of equal rank were compared by: slots left unused, then what was free of each slot. */
  readonly key:
    | { readonly unutilised: number; readonly free: Readonly<Record<string, string>> }
    | { readonly index: number };
  /** What those gave up there who made room for it, besides what was free. */
  readonly freed?: Readonly<Record<string, string>>;
  /** The warm slot that it took. */
  readonly warmSlot?: string;
}

export interface PlacementExplanation {
  readonly at: string;
  readonly decisions: readonly PlacementDecision[];
  /** It passed a session that waits for resources, without delaying it. */
  readonly backfilled: boolean;
  /** Who made room for it; null: nobody had to. */
  readonly victims: MentionedSessions | null;
}

/** A session whose place others still have to leave. */
export interface ReservationView {
  readonly since: string;
  /** If they have not left by then, it waits again. */
  readonly until: string;
  /** Whether they are ended, or go back to the queue. */
  readonly mode: 'terminate' | 'reschedule';
  /** Who holds the place still. */
  readonly leaving: MentionedSessions;
  /** Who has left it. */
  readonly left: MentionedSessions;
  /** The last of those who leave has to have left by then; null: nobody is left, and it starts with the next pass. */
  readonly expectedBy: string | null;
}

/** What was said of the session at a moment. */
export interface ToldReason {
  readonly at: string;
  readonly status: SessionStatus;
  readonly code: string;
  readonly message: string;
}

export interface SessionExplanation {
  readonly sessionId: string;
  readonly name: string;
  readonly status: SessionStatus;
  /** The gist in one sentence. */
  readonly headline: string;
  /** Null unless it waits. */
  readonly waiting: WaitingExplanation | null;
  /** Null unless it is RESERVED. */
  readonly reserved: ReservationView | null;
  /** The last one; null: it was never placed, or before placements were explained. */
  readonly placement: PlacementExplanation | null;
  /** Changes of its state and of what it waited for, oldest first. */
  readonly reasons: readonly ToldReason[];
}
