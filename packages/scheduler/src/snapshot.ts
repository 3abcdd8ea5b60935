import type { ResourceSlots, StatusReason } from '@backend.ai/core';

/** What the scheduler sees of an agent. */
export interface AgentSnapshot {
  readonly id: string;
  readonly status: 'ALIVE' | 'LOST' | 'TERMINATED';
  /** An operator's wish: false sends it nothing more. */
  readonly schedulable: boolean;
  readonly resourceGroup: string;
  /** Keys made by `imageKey`. */
  readonly images: ReadonlySet<string>;
  readonly capacity: ResourceSlots;
  readonly used: ResourceSlots;
}

/** A session that waits, with its one kernel. */
export interface PendingSession {
  readonly sessionId: string;
  readonly kernelId: string;
  readonly image: string;
  readonly architecture: string;
  readonly resourceGroup: string;
  readonly slots: ResourceSlots;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  /** Higher is considered first. */
  readonly priority: number;
  /** Not considered before this moment: an agent refused it shortly before. */
  readonly notBefore?: number | undefined;
  /** Tried last: they refused it before. */
  readonly refusedBy?: ReadonlySet<string> | undefined;
}

export interface Snapshot {
  readonly agents: readonly AgentSnapshot[];
  readonly pending: readonly PendingSession[];
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export interface Placement {
  readonly sessionId: string;
  readonly kernelId: string;
  readonly agentId: string;
}

/** Why a session keeps waiting. `data` is small and holds facts of the moment the code changed. */
export interface WaitingReason {
  readonly code: StatusReason;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface Plan {
  readonly placements: readonly Placement[];
  /** One entry for each pending session that was not placed. */
  readonly reasons: ReadonlyMap<string, WaitingReason>;
}

/** Identifies what an agent can start: a name alone is ambiguous between processor architectures. */
export function imageKey(name: string, architecture: string): string {
  return `${architecture} ${name}`;
}
