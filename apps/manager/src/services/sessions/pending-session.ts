import { isPrivateType, slotsFromTexts } from '@backend.ai/core';
import type { PendingSession } from '@backend.ai/scheduler';
import type { PendingRecord } from '../../repositories/queue.ts';
import type { NewSession } from '../../repositories/sessions.ts';
import { warmKey } from '../warm-pools/warm-key.ts';

/** A waiting session as the scheduler sees it. */
export function pendingOf(record: Omit<PendingRecord, 'reason'>): PendingSession {
  const { sessionId, resourceGroup, type, clusterMode, priority, jobPriority, isPreemptible, architecture, fetchable } =
    record;
  const { startsNotBefore, designatedAgents, previousAgents, timeoutMs, dependencies, requestedPriority } = record;
  return {
    sessionId,
    resourceGroup,
    owner: { keypair: record.accessKey, user: record.userId, project: record.projectId, domain: record.domainName },
    kernels: record.kernels.map((kernel) => ({
      ...kernel,
      slots: slotsFromTexts(kernel.slots),
      architecture,
      ...(fetchable ? { fetchable } : {}),
    })),
    clusterMode,
    type,
    ...(isPrivateType(type) ? { private: true } : {}),
    createdAt: Date.parse(record.createdAt),
    ...(record.queuedAt === record.createdAt ? {} : { queuedAt: Date.parse(record.queuedAt) }),
    priority,
    ...(requestedPriority === null ? {} : { requestedPriority }),
    jobPriority,
    isPreemptible,
    ...(startsNotBefore === null ? {} : { startsAt: Date.parse(startsNotBefore) }),
    ...(dependencies.length === 0 ? {} : { dependencies }),
    ...designation(designatedAgents, previousAgents),
    ...(record.attempts > 0 ? { attempts: record.attempts } : {}),
    ...(timeoutMs === null ? {} : { timeLimitMs: timeoutMs }),
    ...warmth(record),
  };
}

/** One that was queued this moment. What it depends on is for the database to tell: undefined when there is something. */
export function queuedOf(
  session: NewSession,
  created: { createdAt: string; projectId: string },
): PendingSession | undefined {
  if (session.dependencies.length > 0) return undefined;
  return pendingOf({
    ...session,
    ...created,
    queuedAt: created.createdAt,
    sessionId: session.id,
    accessKey: session.owner.accessKey,
    userId: session.owner.userId,
    domainName: session.domain,
    timeoutMs: session.options.timeoutMs ?? null,
    kernels: session.kernels.map(({ id, role, index }) => ({
      kernelId: id,
      role,
      index,
      slots: session.kernelSlots,
      image: session.image,
    })),
    fetchable: session.imageOrigin !== null,
    imageDigest: session.imageOrigin?.digest ?? null,
    imageManifestDigest: session.imageOrigin?.manifestDigest ?? null,
    shmem: session.options.shmem ?? null,
    requestedPriority: null,
    previousAgents: [],
    attempts: 0,
    dependencies: [],
  });
}

/**
 * A session of one kernel may take a warm slot, the first time that it starts: later its files may be somewhere. What it
 * wants besides what the key says comes into a kernel that runs.
 */
function warmth(record: Omit<PendingRecord, 'reason'>): Pick<PendingSession, 'warmKey'> {
  const { kernels, previousAgents, architecture, imageDigest, imageManifestDigest, shmem } = record;
  const [kernel] = kernels;
  if (!kernel || kernels.length > 1 || previousAgents.length > 0) return {};
  const { image, slots } = kernel;
  const bytes = shmem === null ? null : Number(shmem);
  return { warmKey: warmKey({ image, architecture, imageDigest, imageManifestDigest, slots, shmem: bytes }) };
}

/** Agents that were named have to be kept to; else those come first where it was before and left its files. */
function designation(named: readonly string[], previous: readonly string[]): Pick<PendingSession, 'designated'> {
  if (named.length > 0) return { designated: { agents: named, mode: 'strict' } };
  return previous.length > 0 ? { designated: { agents: previous, mode: 'preferred' } } : {};
}
