import type { QuotaScope, SelectionStrategy } from './snapshot.ts';

/**
 * What should happen now. A proposal: the ledger's SQL decides. Plans of equal snapshots are equal, whatever the order of
 * their lists.
 */
export interface Plan {
  /** In the order in which they were decided. */
  readonly placements: readonly Placement[];
  /** Sessions that are to hold resources which their victims give up. */
  readonly reservations: readonly Reservation[];
  /** One entry for each pending session that is neither placed nor reserved. */
  readonly reasons: ReadonlyMap<string, WaitingReason>;
  /** Sessions for which this pass was a failed attempt, if their group's interval has passed since the last one that counted. */
  readonly attempted: readonly string[];
  /** Given up for now, if this pass counts as an attempt: they get the lower priority, and their attempts count from zero. */
  readonly deprioritised: ReadonlyArray<{ readonly sessionId: string; readonly priority: number }>;
  /** They waited longer than their group's `pendingTimeoutMs`. They are not considered; end them. */
  readonly expired: readonly string[];
  /** For each group with `roundrobin` that placed something: its next index. */
  readonly roundRobin: Readonly<Record<string, number>>;
}

export interface PlacedKernel {
  readonly kernelId: string;
  readonly agentId: string;
  /** The warm slot that it takes. */
  readonly warmSlot?: string;
}

export interface Placement {
  readonly sessionId: string;
  /** All kernels of the session. */
  readonly kernels: readonly PlacedKernel[];
  /** Why there: one entry per unit of placement (the whole session, or each kernel of a multi-node session). */
  readonly decision: readonly Decision[];
  /** It passed a session that waits for resources, without delaying it. */
  readonly backfilled?: true;
}

/** Small enough to be stored with the session. */
export interface Decision {
  readonly agentId: string;
  readonly strategy: SelectionStrategy;
  /** Agents of the group that are open and can start the images. */
  readonly suitable: number;
  /** Those of them that had room. */
  readonly candidates: number;
  /** 1 for what counts against the agent: not one of those preferred, refused the session before. */
  readonly rank: readonly [notPreferred: number, refusedBefore: number];
  /** What agents of equal rank were compared by: slots left unused, then what was free of each slot. */
  readonly key:
    | { readonly unutilised: number; readonly free: Readonly<Record<string, string>> }
    | { readonly index: number };
  /** What its victims give up there besides, as far as the unit finds it. */
  readonly freed?: Readonly<Record<string, string>>;
  /** The warm slot that it takes, whatever else the agents have free. */
  readonly warmSlot?: string;
}

export interface Victim {
  readonly sessionId: string;
  readonly jobPriority: number;
}

export interface Reservation extends Placement {
  /** They have to end first; no session is a victim twice in a pass. */
  readonly victims: readonly Victim[];
  readonly mode: 'terminate' | 'reschedule';
}

export interface QuotaViolation {
  readonly scope: QuotaScope;
  readonly id: string;
  /** A slot, or `sessions` or `private-sessions` for their number. */
  readonly slot: string;
  readonly asked: string;
  readonly used: string;
  readonly limit: string;
}

/** Of slots that were asked for: what was asked, and the most that one agent has free. */
export type Lacking = Readonly<Record<string, { readonly asked: string; readonly mostFree: string }>>;

interface Reason<Code extends string, Data> {
  readonly code: Code;
  /** Small; facts of the moment the code changed. */
  readonly data: Data;
}

/** Why a session keeps waiting. The codes are among `statusReasons` of `core`. */
export type WaitingReason =
  | Reason<'agent-refused', { readonly nextTryAt: string; readonly agents: readonly string[] }>
  | Reason<'starts-later', { readonly startsAt: string }>
  | Reason<'dependency-unfinished', { readonly sessions: readonly string[] }>
  | Reason<'dependency-failed', { readonly sessions: readonly string[] }>
  | Reason<'quota-exceeded', { readonly violations: readonly QuotaViolation[] }>
  | Reason<'no-agent', { readonly resourceGroup: string }>
  | Reason<'no-agent-alive', { readonly resourceGroup: string }>
  | Reason<'no-agent-enforces-egress', { readonly resourceGroup: string }>
  | Reason<'no-agent-of-architecture', { readonly architecture: string }>
  | Reason<'no-agent-with-image', { readonly image: string; readonly architecture: string }>
  | Reason<'designated-agent-unavailable', { readonly agents: readonly string[] }>
  | Reason<'exceeds-agents', { readonly lacking: Lacking }>
  | Reason<'insufficient-resources', { readonly lacking: Lacking }>
  | Reason<'kernel-limit-reached', { readonly limit: number }>
  | Reason<'no-common-network', { readonly resourceGroup: string }>
  | Reason<'behind-head-of-line', { readonly head: string }>
  | Reason<'pending-timeout', { readonly resourceGroup: string }>;
export type WaitingCode = WaitingReason['code'];

/** In the order in which they are looked at. */
export const waitingCodes = [
  'pending-timeout',
  'agent-refused',
  'starts-later',
  'dependency-unfinished',
  'dependency-failed',
  'quota-exceeded',
  'no-agent',
  'no-agent-alive',
  'no-agent-enforces-egress',
  'no-agent-of-architecture',
  'designated-agent-unavailable',
  'no-agent-with-image',
  'exceeds-agents',
  'insufficient-resources',
  'kernel-limit-reached',
  'no-common-network',
  'behind-head-of-line',
] as const satisfies readonly WaitingCode[];
