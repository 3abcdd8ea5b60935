import type { ResourceSlots, SessionResult, SessionStatus, SessionType } from '@backend.ai/core';

/**
 * All that the scheduler knows: plain data without methods, so that it can be stored, exported and replayed
 * (`serialiseSnapshot`). Optional fields have the meaning "does not apply" when absent. Moments are milliseconds since the
 * epoch. The order of the lists has no meaning.
 */
export interface Snapshot {
  readonly now: number;
  /** A group that is named by an agent or session and is absent here has default options. */
  readonly groups: readonly ResourceGroup[];
  readonly agents: readonly AgentSnapshot[];
  readonly pending: readonly PendingSession[];
  /** Sessions with kernels on agents, in whatever state: counted by quotas and shares, candidates for preemption. */
  readonly running: readonly RunningSession[];
  readonly quotas: readonly Quota[];
  readonly fairShares: readonly FairShareUsage[];
}

export const schedulingPolicies = ['fifo', 'lifo', 'drf', 'fair-share'] as const;
export type SchedulingPolicy = (typeof schedulingPolicies)[number];
export const selectionStrategies = ['concentrated', 'dispersed', 'roundrobin', 'legacy'] as const;
export type SelectionStrategy = (typeof selectionStrategies)[number];
export const preemptionOrders = ['oldest', 'newest', 'fewest-sessions', 'smallest-resources'] as const;
export type PreemptionOrder = (typeof preemptionOrders)[number];
export const victimScopes = ['user', 'project', 'domain', 'resource-group'] as const;
export type VictimScope = (typeof victimScopes)[number];

export interface ResourceGroup {
  readonly name: string;
  /** Order of its queue inside a priority. Default `fifo`. */
  readonly scheduler?: SchedulingPolicy;
  /** Which of the agents that can take a session gets it. Default `dispersed`. */
  readonly selection?: SelectionStrategy;
  /** Devices in the order in which agents are compared; others follow by name. Default `defaultSlotPriority`. */
  readonly slotPriority?: readonly string[];
  /** Index of the next agent of `roundrobin`. A plan says how it goes on. */
  readonly roundRobin?: number;
  /** A session that waits longer than this is given up; 0 or absent: never. The plan lists those. */
  readonly pendingTimeoutMs?: number;
  /** Failed attempts after which the head of its queue loses priority; 0: never. Default `givingUpDefaults`. */
  readonly attemptsBeforeGivingUp?: number;
  /** Passes are many: one in this time counts as an attempt. Default `givingUpDefaults`. */
  readonly attemptIntervalMs?: number;
  /** Kernels that one agent may hold; absent: any number. */
  readonly maxKernelsPerAgent?: number;
  /** Sessions behind one that waits for resources may start where that does not delay it. */
  readonly backfill?: boolean;
  readonly preemption?: Preemption;
  readonly fairShare?: FairShareSpec;
  /** Its kernels may not call everything: only agents that see to that can take them. */
  readonly restrictsEgress?: boolean;
  /** What was observed of this group, for estimates. */
  readonly history?: GroupHistory;
}

export interface Preemption {
  readonly enabled: boolean;
  readonly order?: PreemptionOrder;
  /** What becomes of victims. Default `terminate`. */
  readonly mode?: 'terminate' | 'reschedule';
  /** Seconds that a victim must have run. */
  readonly minRuntimeSec?: number;
  /** Sessions of a higher job priority are nobody's victims; absent: those of any may be. */
  readonly preemptiblePriority?: number;
  /** What a victim must share with the session that takes its place. Default `user`. */
  readonly victimScope?: VictimScope;
}

export interface FairShareSpec {
  /** Days after which usage counts half. Default 7. */
  readonly halfLifeDays?: number;
  /** Days of which usage counts. Default 28. */
  readonly lookbackDays?: number;
  readonly defaultWeight?: number;
  /** How much each slot counts; slots that are not named count 1. */
  readonly slotWeights?: Readonly<Record<string, number>>;
}

export interface GroupHistory {
  /** Sessions that started per hour lately. */
  readonly startsPerHour: number;
  /** Sessions that this was observed with. */
  readonly samples: number;
  /** When the last of them started. */
  readonly lastStartAt?: number;
}

export interface AgentSnapshot {
  readonly id: string;
  readonly status: 'ALIVE' | 'LOST' | 'TERMINATED';
  /** An operator's wish: false sends it nothing more. */
  readonly schedulable: boolean;
  readonly resourceGroup: string;
  readonly architecture: string;
  /** Keys made by `imageKey`. */
  readonly images: readonly string[];
  /** It fetches images that registries have for its architecture. */
  readonly fetchesImages?: boolean;
  /** It keeps kernels to an egress policy. */
  readonly enforcesEgress?: boolean;
  /** Kernels of one session reach each other on agents with the same; those without one have one in common, too. */
  readonly clusterNetwork?: string;
  readonly capacity: ResourceSlots;
  /** Held by kernels, whether they run or are being started. */
  readonly used: ResourceSlots;
  /** Held for sessions that wait until victims have left. */
  readonly reserved?: ResourceSlots;
  /** Kernels that it holds. */
  readonly kernelCount?: number;
  /** Not counted in `used`: they give way. */
  readonly warmSlots?: readonly WarmSlot[];
}

/**
 * A kernel that was started ahead, for the first session that asks for exactly this. Its place is left alone while there is
 * another one; a session that finds none takes it, and the slot is gone.
 */
export interface WarmSlot {
  readonly slotId: string;
  /** Sessions with the same one may take it. */
  readonly key: string;
  readonly slots: ResourceSlots;
  /** Whether it can be taken now. */
  readonly ready: boolean;
}

export interface Owner {
  readonly keypair: string;
  readonly user: string;
  readonly project: string;
  readonly domain: string;
}

export interface KernelRequest {
  readonly kernelId: string;
  readonly role: string;
  /** Counts from 1 inside its role. */
  readonly index: number;
  readonly slots: ResourceSlots;
  readonly image: string;
  readonly architecture: string;
  /** A registry has the image. */
  readonly fetchable?: boolean;
}

export interface Dependency {
  readonly sessionId: string;
  readonly status: SessionStatus;
  readonly result: SessionResult;
}

export interface PendingSession {
  readonly sessionId: string;
  readonly resourceGroup: string;
  readonly owner: Owner;
  /** In the order in which they are placed; never empty. */
  readonly kernels: readonly KernelRequest[];
  /**
   * `single-node`: all kernels on one agent. `multi-node`: each on its own or together, all or none, and where they reach
   * each other. Default `single-node`.
   */
  readonly clusterMode?: 'single-node' | 'multi-node';
  /** Default `interactive`. */
  readonly type?: SessionType;
  /** Of the system: resource quotas do not count it, and its number has a limit of its own. */
  readonly private?: boolean;
  readonly createdAt: number;
  /** Since when it waits, where that is not since it was made: it started anew. What it may wait counts from here. */
  readonly queuedAt?: number;
  /** Higher is considered first. */
  readonly priority: number;
  /** What it was queued with, where it lost some of it by giving up. */
  readonly requestedPriority?: number;
  /** Compared between a session that preempts and its victims only. Default 0. */
  readonly jobPriority?: number;
  /** Default true. */
  readonly isPreemptible?: boolean;
  /** Batch sessions are not started before. */
  readonly startsAt?: number;
  readonly dependencies?: readonly Dependency[];
  /** One agent per kernel of a multi-node session; else any of those named. */
  readonly designated?: { readonly agents: readonly string[]; readonly mode: 'strict' | 'preferred' };
  /** Warm slots with the same key suit; absent: none does. */
  readonly warmKey?: string;
  /** Failed attempts so far: passes in which it was the first that lacked resources. */
  readonly attempts?: number;
  /** Not considered before this moment: an agent refused it shortly before. */
  readonly notBefore?: number;
  /** Tried last: they refused it before. */
  readonly refusedBy?: readonly string[];
  /** It ends at the latest this long after its start. */
  readonly timeLimitMs?: number;
}

export interface RunningKernel {
  readonly kernelId: string;
  readonly agentId: string;
  readonly slots: ResourceSlots;
}

export interface RunningSession {
  readonly sessionId: string;
  readonly resourceGroup: string;
  readonly owner: Owner;
  readonly kernels: readonly RunningKernel[];
  readonly private?: boolean;
  readonly priority?: number;
  /** Default 0. */
  readonly jobPriority?: number;
  /** Default true. */
  readonly isPreemptible?: boolean;
  /** Absent while it is being started. */
  readonly startedAt?: number;
  readonly timeLimitMs?: number;
  /** Its end has been ordered: it is nobody's victim, and what it holds becomes free soon. */
  readonly ending?: boolean;
  /** Its kernels' amounts are reserved for it (`AgentSnapshot.reserved`), not yet used. */
  readonly awaitsVictims?: boolean;
}

export const quotaScopes = ['keypair', 'user', 'project', 'domain'] as const;
export type QuotaScope = (typeof quotaScopes)[number];

/** Limits on what all sessions of a scope may hold together, in all resource groups. */
export interface Quota {
  readonly scope: QuotaScope;
  readonly id: string;
  readonly limits: ResourceSlots;
  /** What slots that `limits` does not name are limited to. Default `unlimited`. */
  readonly unlisted?: 'unlimited' | 'zero';
  readonly maxSessions?: number;
  readonly maxPrivateSessions?: number;
}

export const fairShareScopes = ['domain', 'project', 'user'] as const;
export type FairShareScope = (typeof fairShareScopes)[number];

/** Decayed usage (`decayedUsage`) of a scope in a resource group. A scope without an entry comes last. */
export interface FairShareUsage {
  readonly resourceGroup: string;
  readonly scope: FairShareScope;
  readonly id: string;
  /** Amounts times seconds. */
  readonly usage: ResourceSlots;
  /** Default: that of the group. */
  readonly weight?: number;
}

/** Identifies what an agent can start: a name alone is ambiguous between processor architectures. */
export function imageKey(name: string, architecture: string): string {
  return `${architecture} ${name}`;
}

/** Whether the agent has the image of the kernel, or would get it. Its architecture is another question. */
export function canStartImage(
  agent: AgentSnapshot,
  { image, architecture, fetchable }: Pick<KernelRequest, 'image' | 'architecture' | 'fetchable'>,
): boolean {
  return (agent.fetchesImages && fetchable) || agent.images.includes(imageKey(image, architecture));
}
