import { resourceGroupOptionsSchema } from '@backend.ai/contract';
import { isPrivateType, type SessionStatus, slotsFromTexts } from '@backend.ai/core';
import type { Quota, ResourceGroup, RunningSession } from '@backend.ai/scheduler';
import type { HoldingRecord } from '../repositories/queue.ts';
import type { LimitRecord } from '../repositories/quotas.ts';
import type { GroupSchedulingRecord } from '../repositories/resource-groups.ts';

/** Groups, limits and running sessions, from rows to what the scheduler decides upon. */

export function toResourceGroup({ name, scheduler, options, egress }: GroupSchedulingRecord): ResourceGroup {
  const { agentSelectionStrategy, agentSelectionPriority, pendingTimeout, maxKernelsPerAgent, ...rest } =
    resourceGroupOptionsSchema.parse(options);
  const { backfill, fairShare, preemption, attemptsBeforeGivingUp, attemptInterval } = rest;
  const { minRuntime, ...preempting } = preemption;
  return {
    name,
    scheduler,
    selection: agentSelectionStrategy,
    slotPriority: agentSelectionPriority,
    attemptsBeforeGivingUp,
    attemptIntervalMs: attemptInterval * 1_000,
    backfill,
    fairShare,
    preemption: { ...preempting, minRuntimeSec: minRuntime },
    ...(egress.policy === 'open' ? {} : { restrictsEgress: true }),
    ...(pendingTimeout > 0 ? { pendingTimeoutMs: pendingTimeout * 1_000 } : {}),
    ...(maxKernelsPerAgent > 0 ? { maxKernelsPerAgent } : {}),
  };
}

/** More than there is of anything: for slots without limit beside others that have none at all. */
const unlimited = 10n ** 21n;

export function toQuota({ kind: scope, id, limits, closed, maxSessions, maxPrivateSessions }: LimitRecord): Quota {
  const entries = Object.entries(limits);
  const free = entries.filter(([, limit]) => limit === 'Infinity').map(([slot]) => [slot, unlimited]);
  return {
    scope,
    id,
    limits: {
      ...slotsFromTexts(Object.fromEntries(entries.filter(([, limit]) => limit !== 'Infinity'))),
      ...(closed ? Object.fromEntries(free) : {}),
    },
    ...(closed ? { unlisted: 'zero' as const } : {}),
    ...(maxSessions > 0 ? { maxSessions } : {}),
    ...(maxPrivateSessions > 0 ? { maxPrivateSessions } : {}),
  };
}

const endingStatuses: readonly SessionStatus[] = ['TERMINATING', 'RESTARTING', 'RESCHEDULING', 'PREEMPTED'];

/** Its end has been ordered: what it holds becomes free soon. */
export function isEnding(status: SessionStatus): boolean {
  return endingStatuses.includes(status);
}

export function toRunningSession(record: HoldingRecord): RunningSession {
  const { sessionId, resourceGroup, priority, jobPriority, isPreemptible, startedAt, timeoutMs } = record;
  return {
    sessionId,
    resourceGroup,
    owner: { keypair: record.accessKey, user: record.userId, project: record.projectId, domain: record.domainName },
    kernels: record.kernels.map((kernel) => ({ ...kernel, slots: slotsFromTexts(kernel.slots) })),
    priority,
    jobPriority,
    isPreemptible,
    ...(isPrivateType(record.type) ? { private: true } : {}),
    ...(startedAt === null ? {} : { startedAt: Date.parse(startedAt) }),
    ...(timeoutMs === null ? {} : { timeLimitMs: timeoutMs }),
    ...(isEnding(record.status) ? { ending: true } : {}),
    ...(record.status === 'RESERVED' ? { awaitsVictims: true } : {}),
  };
}
