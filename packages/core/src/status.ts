/**
 * States of sessions and kernels, and which change may follow which: the only source for compare-and-set updates.
 *
 * A session has one or more kernels. Kernels move by what agents tell of them, and their session follows by
 * `promotions`; a session moves by itself when somebody wants it to, and takes its kernels along. RUNNING means: the
 * runner in each kernel answered its first ping. Every transient state has a deadline and a next step, so that nothing
 * can be stuck: see `transientDeadlines`.
 */
export const sessionStatuses = [
  'PENDING',
  'DEPRIORITIZING',
  'RESERVED',
  'SCHEDULED',
  'PREPARING',
  'PULLING',
  'PREPARED',
  'CREATING',
  'RUNNING',
  'RUNNING_DEGRADED',
  'RESTARTING',
  'PREEMPTED',
  'RESCHEDULING',
  'TERMINATING',
  'TERMINATED',
  'ERROR',
  'CANCELLED',
] as const;
export type SessionStatus = (typeof sessionStatuses)[number];

export const kernelStatuses = [
  'PENDING',
  'RESERVED',
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
] as const satisfies readonly SessionStatus[];
export type KernelStatus = (typeof kernelStatuses)[number];

const towardsEnd = ['PREEMPTED', 'TERMINATING', 'ERROR'] as const satisfies readonly SessionStatus[];

/** From each state of a session, the states that may follow. */
export const statusTransitions: Readonly<Record<SessionStatus, readonly SessionStatus[]>> = {
  PENDING: ['DEPRIORITIZING', 'RESERVED', 'SCHEDULED', 'CANCELLED', 'ERROR'],
  DEPRIORITIZING: ['PENDING', 'CANCELLED'],
  // Nothing was ordered for it yet: it ends as one that waits does.
  RESERVED: ['SCHEDULED', 'PENDING', 'CANCELLED'],
  // Back to PENDING: an agent refused or vanished before all of it ran.
  SCHEDULED: ['PREPARING', 'PENDING', ...towardsEnd],
  PREPARING: ['PULLING', 'PREPARED', 'CREATING', 'PENDING', ...towardsEnd],
  PULLING: ['PREPARED', 'CREATING', 'PENDING', ...towardsEnd],
  PREPARED: ['CREATING', 'PENDING', ...towardsEnd],
  CREATING: ['RUNNING', 'PENDING', ...towardsEnd],
  RUNNING: ['RUNNING_DEGRADED', 'RESTARTING', 'RESCHEDULING', 'TERMINATED', ...towardsEnd],
  RUNNING_DEGRADED: ['RESTARTING', 'RESCHEDULING', 'TERMINATED', ...towardsEnd],
  // Both go to PENDING once all their kernels have ended. Who ends one in that moment leaves nothing to wait for.
  RESTARTING: ['PENDING', 'TERMINATING', 'TERMINATED', 'ERROR'],
  RESCHEDULING: ['PENDING', 'TERMINATING', 'TERMINATED', 'ERROR'],
  PREEMPTED: ['RESCHEDULING', 'TERMINATING', 'TERMINATED', 'ERROR'],
  TERMINATING: ['TERMINATED', 'ERROR'],
  TERMINATED: [],
  ERROR: [],
  CANCELLED: [],
};

/** From each state of a kernel. Going back to the queue is none of them: that is another kernel in the same row. */
export const kernelTransitions: Readonly<Record<KernelStatus, readonly KernelStatus[]>> = {
  PENDING: ['RESERVED', 'SCHEDULED', 'CANCELLED', 'ERROR'],
  RESERVED: ['SCHEDULED', 'CANCELLED'],
  SCHEDULED: ['PREPARING', 'TERMINATING', 'ERROR'],
  PREPARING: ['PULLING', 'PREPARED', 'CREATING', 'TERMINATING', 'ERROR'],
  PULLING: ['PREPARED', 'CREATING', 'TERMINATING', 'ERROR'],
  PREPARED: ['CREATING', 'TERMINATING', 'ERROR'],
  CREATING: ['RUNNING', 'TERMINATING', 'ERROR'],
  RUNNING: ['TERMINATING', 'TERMINATED', 'ERROR'],
  TERMINATING: ['TERMINATED', 'ERROR'],
  TERMINATED: [],
  ERROR: [],
  CANCELLED: [],
};

const endedKernel = ['TERMINATED', 'ERROR', 'CANCELLED'] as const satisfies readonly KernelStatus[];
export const terminalStatuses: readonly SessionStatus[] = endedKernel;
export const liveStatuses: readonly SessionStatus[] = sessionStatuses.filter((s) => !terminalStatuses.includes(s));
/** Waiting without anything: no agent, nothing in the ledger. */
export const waitingStatuses: readonly SessionStatus[] = ['PENDING', 'DEPRIORITIZING'];
/** Between the decision for an agent and the first ping, of sessions and kernels. */
export const startingStatuses = ['SCHEDULED', 'PREPARING', 'PULLING', 'PREPARED', 'CREATING'] as const;
/** A session in one of these has kernels at agents. */
export const occupyingStatuses: readonly SessionStatus[] = liveStatuses.filter((s) => !waitingStatuses.includes(s));
/** A kernel in one of these holds its resources; in RESERVED it has only announced that it will. */
export const holdingStatuses: readonly KernelStatus[] = kernelStatuses.filter(
  (s) => s !== 'PENDING' && s !== 'RESERVED' && !terminalStatuses.includes(s),
);
/** Programs can be run in its main kernel. */
export const servingStatuses: readonly SessionStatus[] = ['RUNNING', 'RUNNING_DEGRADED'];

export function isTerminal(status: SessionStatus): boolean {
  return terminalStatuses.includes(status);
}

export function mayFollow(from: SessionStatus, to: SessionStatus): boolean {
  return statusTransitions[from].includes(to);
}

/** The states from which a session may enter `to`: the `WHERE status IN (…)` of a compare-and-set. */
export function sourcesOf(to: SessionStatus): SessionStatus[] {
  return sessionStatuses.filter((from) => mayFollow(from, to));
}

/** The states from which a kernel may enter `to`. */
export function kernelSourcesOf(to: KernelStatus): KernelStatus[] {
  return kernelStatuses.filter((from) => kernelTransitions[from].includes(to));
}

/** When the kernels of a session are so, it is in another state. All conditions that are there must hold. */
export interface Promotion {
  readonly from: readonly SessionStatus[];
  /** Every kernel is in one of these. */
  readonly every?: readonly KernelStatus[];
  /** At least one kernel is in one of these. */
  readonly some?: readonly KernelStatus[];
  /** The main kernel is in one of these. */
  readonly main?: readonly KernelStatus[];
  /** Only of sessions that were made so that they outlive the loss of a sub kernel. */
  readonly tolerant?: true;
  readonly to: SessionStatus;
  /** In place of the reason of the kernel that caused it. */
  readonly reason?: StatusReason;
}

const atAgents = [...startingStatuses, 'RUNNING', 'RUNNING_DEGRADED'] as const;

/** The first that fits counts. Repeating one changes nothing. */
export const promotions: readonly Promotion[] = [
  // Of one that outlives its sub kernels, the main kernel alone tells how it ended.
  {
    from: ['RUNNING', 'RUNNING_DEGRADED', 'PREEMPTED', 'TERMINATING'],
    every: endedKernel,
    main: ['TERMINATED'],
    tolerant: true,
    to: 'TERMINATED',
  },
  { from: [...atAgents, 'PREEMPTED', 'TERMINATING'], every: endedKernel, some: ['ERROR'], to: 'ERROR' },
  {
    from: ['RUNNING', 'RUNNING_DEGRADED', 'PREEMPTED', 'TERMINATING'],
    every: endedKernel,
    to: 'TERMINATED',
  },
  { from: ['RUNNING_DEGRADED'], main: ['RUNNING'], tolerant: true, to: 'RUNNING_DEGRADED' },
  {
    from: ['RUNNING'],
    some: endedKernel,
    main: ['RUNNING'],
    tolerant: true,
    to: 'RUNNING_DEGRADED',
    reason: 'degraded',
  },
  { from: atAgents, some: endedKernel, to: 'TERMINATING', reason: 'abnormal-termination' },
  {
    from: ['PREPARING', 'PULLING', 'PREPARED'],
    every: ['CREATING', 'RUNNING'],
    some: ['CREATING'],
    to: 'CREATING',
  },
  { from: ['CREATING'], every: ['RUNNING'], to: 'RUNNING' },
  { from: ['PREPARING', 'PULLING'], every: ['PREPARED', 'CREATING', 'RUNNING'], to: 'PREPARED' },
  { from: ['PREPARING'], some: ['PULLING'], to: 'PULLING' },
];

const endingOrEnded: readonly KernelStatus[] = ['TERMINATING', ...endedKernel];
const startingOrRunning: readonly KernelStatus[] = [...startingStatuses, 'RUNNING'];

/** Where the kernels of a session may be. */
export const kernelStatusesOf: Readonly<Record<SessionStatus, readonly KernelStatus[]>> = {
  PENDING: ['PENDING'],
  DEPRIORITIZING: ['PENDING'],
  RESERVED: ['RESERVED'],
  SCHEDULED: startingOrRunning,
  PREPARING: startingOrRunning,
  PULLING: startingOrRunning,
  PREPARED: ['PREPARED', 'CREATING', 'RUNNING'],
  CREATING: ['CREATING', 'RUNNING'],
  RUNNING: ['RUNNING'],
  RUNNING_DEGRADED: ['RUNNING', ...endedKernel],
  RESTARTING: endingOrEnded,
  RESCHEDULING: endingOrEnded,
  PREEMPTED: [...startingOrRunning, ...endedKernel],
  TERMINATING: endingOrEnded,
  TERMINATED: endedKernel,
  ERROR: endedKernel,
  CANCELLED: endedKernel,
};

/** Where a session is whose kernels are so. */
export function sessionStatusOf(
  kernels: ReadonlyArray<{ readonly status: KernelStatus; readonly role: 'main' | 'sub' }>,
  present: SessionStatus,
  tolerant = false,
): SessionStatus {
  return promotionOf(kernels, present, tolerant)?.to ?? present;
}

export function promotionOf(
  kernels: ReadonlyArray<{ readonly status: KernelStatus; readonly role: 'main' | 'sub' }>,
  present: SessionStatus,
  tolerant = false,
): Promotion | undefined {
  return promotions.find(
    ({ from, every, some, main, tolerant: onlyTolerant }) =>
      from.includes(present) &&
      (!onlyTolerant || tolerant) &&
      (!every || kernels.every(({ status }) => every.includes(status))) &&
      (!some || kernels.some(({ status }) => some.includes(status))) &&
      (!main || kernels.some(({ status, role }) => role === 'main' && main.includes(status))),
  );
}

/** A session outlives the loss of a sub kernel when it is `tolerant`; otherwise it ends with any of its kernels. */
export const failurePolicies = ['strict', 'tolerant'] as const;
export type FailurePolicy = (typeof failurePolicies)[number];

export interface TransientDeadline {
  /** How long the state may last, in milliseconds. */
  readonly afterMs: number;
  /** What the system does then. */
  readonly next: SessionStatus;
  /** Reason written with the change. */
  readonly reason: StatusReason;
  /** What leaves the state before that, in a few words. */
  readonly healing: string;
}

/** Every state of a session that is neither terminal, PENDING (which always has a reason) nor one in which it works. */
export const transientDeadlines: Readonly<Partial<Record<SessionStatus, TransientDeadline>>> = {
  DEPRIORITIZING: {
    afterMs: 30_000,
    next: 'PENDING',
    reason: 'deprioritized',
    healing: 'the next look at it lowers its priority and puts it back into the queue',
  },
  RESERVED: {
    afterMs: 600_000,
    next: 'PENDING',
    reason: 'reservation-timeout',
    healing: 'it is placed as soon as those that make room for it have left',
  },
  SCHEDULED: {
    afterMs: 30_000,
    next: 'PENDING',
    reason: 'start-timeout',
    healing: 'none: it is left in the statement that enters it',
  },
  PREPARING: {
    afterMs: 60_000,
    next: 'TERMINATING',
    reason: 'start-timeout',
    healing: 'agents are asked what they have, and told again',
  },
  PULLING: {
    afterMs: 7_200_000,
    next: 'TERMINATING',
    reason: 'pull-timeout',
    healing: 'heartbeats tell what events did not',
  },
  PREPARED: {
    afterMs: 30_000,
    next: 'TERMINATING',
    reason: 'start-timeout',
    healing: 'heartbeats tell what events did not',
  },
  CREATING: {
    afterMs: 60_000,
    next: 'TERMINATING',
    reason: 'start-timeout',
    healing: 'heartbeats tell what events did not',
  },
  RESTARTING: {
    afterMs: 120_000,
    next: 'TERMINATING',
    reason: 'restart-timeout',
    healing: 'agents are told to end its kernels until they report the end; then it goes back to the queue',
  },
  RESCHEDULING: {
    afterMs: 120_000,
    next: 'TERMINATING',
    reason: 'restart-timeout',
    healing: 'agents are told to end its kernels until they report the end; then it goes back to the queue',
  },
  PREEMPTED: {
    afterMs: 30_000,
    next: 'TERMINATING',
    reason: 'preempted',
    healing: 'the next look at it ends it or puts it back into the queue, as its resource group wants',
  },
  TERMINATING: {
    afterMs: 120_000,
    next: 'ERROR',
    reason: 'terminate-timeout',
    healing: 'agents are told again until they report the end; what has no agent any more has ended',
  },
};

/** Why a session is where it is: machine-readable, shown with `explainReason`. */
export const statusReasons = {
  queued: 'It was just queued and is considered next.',
  'no-agent': 'No agent has joined the cluster yet.',
  'no-agent-alive': 'No agent is reachable at the moment.',
  'no-agent-enforces-egress': 'No reachable agent can enforce the egress policy of its resource group.',
  'no-agent-with-image': 'No reachable agent offers the image.',
  'insufficient-resources': 'No agent has enough free resources now; it starts when others end.',
  'behind-head-of-line': 'A session before it waits for resources, and nothing may overtake it.',
  'no-agent-of-architecture': 'No reachable agent has the processor architecture of its image.',
  'designated-agent-unavailable': 'An agent that it has to be on is not available.',
  'exceeds-agents': 'It asks for more than any agent has at all.',
  'no-common-network': 'Agents with room for all of its kernels have no network in common.',
  'kernel-limit-reached': 'Every agent that could take it holds as many kernels as it may.',
  'quota-exceeded': 'What it asks for goes beyond a limit of its owner, project or domain.',
  'starts-later': 'It is not to start before its time.',
  'dependency-unfinished': 'It waits for other sessions to end.',
  'dependency-failed': 'A session that it depends on did not end with success.',
  'agent-refused': 'The chosen agent refused; another try follows.',
  'start-timeout': 'It did not start in time.',
  'pull-timeout': 'Its image did not arrive in time.',
  'pending-timeout': 'It waited longer than its resource group allows.',
  'start-failed': 'The agent could not start it.',
  'image-pull-failed': 'Its image could not be fetched.',
  'disk-full': 'The disk of its agent was full.',
  'abnormal-termination': 'One of its kernels ended, and the others cannot go on without it.',
  degraded: 'It goes on although one of its kernels has ended.',
  'user-requested': 'Its owner ended it.',
  'admin-requested': 'An administrator ended it.',
  'restart-requested': 'Its owner wanted it to start anew.',
  'restart-timeout': 'Its kernels did not end in time for it to start anew.',
  rescheduled: 'It waits again after it made room for another session.',
  reserved: 'Others make room for it; it starts when they have left.',
  preempted: 'It made room for a session of higher priority.',
  deprioritized: 'It could not be placed for long; its priority was lowered.',
  'reservation-timeout': 'The room that was to be made for it did not become free in time.',
  'self-terminated': 'Its main program ended by itself.',
  'cluster-shutdown': 'The cluster was shut down.',
  'exec-timeout': 'A program in it ran past its time limit.',
  'idle-timeout': 'Nobody used it for as long as it may stay unused.',
  'idle-session-lifetime': 'It reached the age that the policy of its key pair allows.',
  'idle-utilization': 'It used less of its resources than it should.',
  'out-of-memory': 'It used more memory than it had asked for.',
  'task-finished': 'Its batch job has ended with success.',
  'task-failed': 'Its batch job has failed.',
  'task-timeout': 'Its batch job ran past the time limit of the session.',
  'agent-lost': 'Its agent stayed unreachable for too long.',
  'kernel-lost': 'Its agent came back without it.',
  'host-restarted': 'Its machine was restarted while it ran.',
  'engine-restarted': 'The container engine of its machine ended or was restarted, and took it along.',
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

/**
 * What a session means for one that depends on it. Its success decides, once it is over: an end that no agent confirmed
 * takes nothing back from a program that had succeeded.
 */
export function dependencyState({
  status,
  result,
}: {
  readonly status: SessionStatus;
  readonly result: SessionResult;
}): 'met' | 'failed' | 'unfinished' {
  if (!isTerminal(status)) return 'unfinished';
  return result === 'success' ? 'met' : 'failed';
}
