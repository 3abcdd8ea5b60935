/**
 * States of sessions and kernels, and which change may follow which: the only source for compare-and-set updates.
 *
 * RUNNING means: the runner in the kernel answered its first ping. Every transient state has a deadline and a next
 * step, so that nothing can be stuck: see `transientDeadlines`.
 */
export const sessionStatuses = [
  'PENDING',
  'SCHEDULED',
  'PREPARING',
  'PULLING',
  'PREPARED',
  'CREATING',
  'RUNNING',
  'TERMINATING',
  'TERMINATED',
  'ERROR',
  'CANCELLED',
] as const;
export type SessionStatus = (typeof sessionStatuses)[number];

/** A kernel has the states of its session. A session of one kernel is always where its kernel is. */
export type KernelStatus = SessionStatus;

const towardsEnd = ['TERMINATING', 'ERROR'] as const satisfies readonly SessionStatus[];

/** From each state, the states that may follow. */
export const statusTransitions: Readonly<Record<SessionStatus, readonly SessionStatus[]>> = {
  PENDING: ['SCHEDULED', 'CANCELLED', 'ERROR'],
  // Back to PENDING: the agent refused or vanished before anything was started there.
  SCHEDULED: ['PREPARING', 'PENDING', ...towardsEnd],
  PREPARING: ['PULLING', 'PREPARED', 'CREATING', 'PENDING', ...towardsEnd],
  PULLING: ['PREPARED', 'PENDING', ...towardsEnd],
  PREPARED: ['CREATING', 'PENDING', ...towardsEnd],
  CREATING: ['RUNNING', 'PENDING', ...towardsEnd],
  RUNNING: ['TERMINATING', 'TERMINATED', 'ERROR'],
  TERMINATING: ['TERMINATED', 'ERROR'],
  TERMINATED: [],
  ERROR: [],
  CANCELLED: [],
};

export const terminalStatuses: readonly SessionStatus[] = ['TERMINATED', 'ERROR', 'CANCELLED'];
export const liveStatuses: readonly SessionStatus[] = sessionStatuses.filter((s) => !terminalStatuses.includes(s));
/** A kernel in one of these holds an allocation in the ledger. */
export const occupyingStatuses: readonly SessionStatus[] = liveStatuses.filter((s) => s !== 'PENDING');
/** Between the decision for an agent and the first ping. */
export const startingStatuses: readonly SessionStatus[] = ['SCHEDULED', 'PREPARING', 'PULLING', 'PREPARED', 'CREATING'];

export function isTerminal(status: SessionStatus): boolean {
  return terminalStatuses.includes(status);
}

export function mayFollow(from: SessionStatus, to: SessionStatus): boolean {
  return statusTransitions[from].includes(to);
}

/** The states from which `to` may be entered: the `WHERE status IN (…)` of a compare-and-set. */
export function sourcesOf(to: SessionStatus): SessionStatus[] {
  return sessionStatuses.filter((from) => mayFollow(from, to));
}

export interface TransientDeadline {
  /** How long the state may last, in milliseconds. */
  readonly afterMs: number;
  /** What the system does then. */
  readonly next: SessionStatus;
  /** Reason written with the change. */
  readonly reason: StatusReason;
}

/** Every state that is neither terminal, PENDING (which always has a reason) nor RUNNING. */
export const transientDeadlines: Readonly<Partial<Record<SessionStatus, TransientDeadline>>> = {
  SCHEDULED: { afterMs: 30_000, next: 'PENDING', reason: 'start-timeout' },
  PREPARING: { afterMs: 60_000, next: 'TERMINATING', reason: 'start-timeout' },
  PULLING: { afterMs: 3_600_000, next: 'TERMINATING', reason: 'pull-timeout' },
  PREPARED: { afterMs: 30_000, next: 'TERMINATING', reason: 'start-timeout' },
  CREATING: { afterMs: 60_000, next: 'TERMINATING', reason: 'start-timeout' },
  TERMINATING: { afterMs: 120_000, next: 'ERROR', reason: 'terminate-timeout' },
};

/** Why a session is where it is: machine-readable, shown with `explainReason`. */
export const statusReasons = {
  queued: 'It was just queued and is considered next.',
  'no-agent': 'No agent has joined the cluster yet.',
  'no-agent-alive': 'No agent is reachable at the moment.',
  'no-agent-with-image': 'No reachable agent offers the image.',
  'insufficient-resources': 'No agent has enough free resources now; it starts when others end.',
  'behind-others': 'Sessions that came earlier are served first.',
  'agent-refused': 'The chosen agent refused; another try follows.',
  'start-timeout': 'It did not start in time.',
  'pull-timeout': 'Its image did not arrive in time.',
  'start-failed': 'The agent could not start it.',
  'user-requested': 'Its owner ended it.',
  'admin-requested': 'An administrator ended it.',
  'self-terminated': 'Its main program ended by itself.',
  'cluster-shutdown': 'The cluster was shut down.',
  'exec-timeout': 'A program in it ran past its time limit.',
  'out-of-memory': 'It used more memory than it had asked for.',
  'agent-lost': 'Its agent stayed unreachable for too long.',
  'kernel-lost': 'Its agent came back without it.',
  'terminate-timeout': 'Its agent did not confirm the end in time; the agent sweeps the remains when it is back.',
  started: 'It runs.',
  progress: 'It is being started.',
} as const;
export type StatusReason = keyof typeof statusReasons;

export function explainReason(reason: string): string {
  return Object.hasOwn(statusReasons, reason) ? statusReasons[reason as StatusReason] : reason;
}

/** `system` sessions are the platform's own: they count apart from those of users. */
export const sessionTypes = ['interactive', 'batch', 'inference', 'system'] as const;
export type SessionType = (typeof sessionTypes)[number];

/** Whether a session counts apart: not in a user's quotas of resources and of concurrent sessions. */
export function isPrivateType(type: SessionType): boolean {
  return type === 'system';
}

/** Whether a batch session's program succeeded. */
export const sessionResults = ['undefined', 'success', 'failure'] as const;
export type SessionResult = (typeof sessionResults)[number];
