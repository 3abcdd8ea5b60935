import type {
  IsolationReport,
  SessionDetailsView,
  SessionHistoryEntry,
  SessionView,
  StepTiming,
} from '@backend.ai/contract';
import { amountFromText, amountToText, explainReason } from '@backend.ai/core';
import type { SessionDetails, SessionRecord } from '../../repositories/session-rows.ts';
import type { HistoryRecord, NewSession } from '../../repositories/sessions.ts';

/** As the API shows a session. */
export function toSessionView(record: SessionRecord): SessionView {
  const created = Date.parse(record.createdAt);
  const since = (moment: string | null): number | null => (moment === null ? null : Date.parse(moment) - created);
  const main = record.kernels[0]?.data;
  return {
    id: record.id,
    name: record.name,
    type: record.type,
    status: record.status,
    reason: toReason(record.statusReason, record.statusData),
    pull: null,
    result: record.result,
    image: record.image,
    architecture: record.architecture,
    tag: record.tag,
    domain: record.domainName,
    project: record.projectName,
    projectId: record.projectId,
    resourceGroup: record.resourceGroup,
    userId: record.userId,
    accessKey: record.accessKey,
    options: {
      clusterMode: record.clusterMode,
      clusterSize: record.clusterSize,
      priority: record.priority,
      jobPriority: record.jobPriority,
      isPreemptible: record.isPreemptible,
      failurePolicy: record.failurePolicy,
      startsAt: record.startsNotBefore === null ? null : toIso(record.startsNotBefore),
      timeoutMs: record.options.timeoutMs ?? null,
      callbackUrl: record.callbackUrl,
      preopenPorts: [...(record.options.preopenPorts ?? [])],
      shmem: record.options.shmem ?? null,
      designatedAgents: record.designatedAgents,
    },
    requested: plainAmounts(record.requestedSlots),
    kernels: record.kernels.map((kernel) => ({
      id: kernel.id,
      role: kernel.clusterRole,
      index: kernel.clusterIndex,
      status: kernel.status,
      agent: kernel.agentId,
      exitCode: kernel.exitCode,
      isolation: (kernel.data.isolation as IsolationReport | undefined) ?? null,
    })),
    createdAt: toIso(record.createdAt),
    statusChangedAt: toIso(record.statusChangedAt),
    pausedAt: record.pausedAt === null ? null : toIso(record.pausedAt),
    startedAt: record.startedAt === null ? null : toIso(record.startedAt),
    terminatedAt: record.terminatedAt === null ? null : toIso(record.terminatedAt),
    timings: {
      scheduledMs: since(record.scheduledAt),
      runningMs: since(record.startedAt),
      endedMs: since(record.terminatedAt),
      steps: (main?.steps as StepTiming[] | undefined) ?? [],
    },
    requestId: record.requestId,
  };
}

export function toSessionDetails(record: SessionDetails): SessionDetailsView {
  const { environ, startupCommand, bootstrapScript, dependencies } = record;
  return { ...toSessionView(record), environ, startupCommand, bootstrapScript, dependencies };
}

/** What was just inserted, without reading it again. */
export function newRecord(
  session: NewSession & { readonly project: string },
  { createdAt, projectId }: { createdAt: string; projectId: string },
): SessionRecord {
  const { domain: domainName, project: projectName, owner, slots, kernels } = session;
  return {
    ...session,
    domainName,
    projectId,
    projectName,
    userId: owner.userId,
    accessKey: owner.accessKey,
    clusterSize: kernels.length,
    designatedAgents: [...session.designatedAgents],
    status: 'PENDING',
    statusReason: 'queued',
    statusData: {},
    result: 'undefined',
    requestedSlots: slots,
    createdAt,
    statusChangedAt: createdAt,
    scheduledAt: null,
    pausedAt: null,
    startedAt: null,
    terminatedAt: null,
    version: 1,
    kernels: kernels.map(({ id, role, index }) => ({
      id,
      agentId: null,
      clusterRole: role,
      clusterIndex: index,
      status: 'PENDING',
      exitCode: null,
      requestedSlots: session.kernelSlots,
      data: {},
    })),
  };
}

/** @param message Its reason in one sentence. */
export function toHistoryEntry(record: HistoryRecord, message: string): SessionHistoryEntry {
  return {
    from: record.fromStatus,
    to: record.toStatus,
    reason: { ...toReason(record.reason, record.data), message },
    requestId: record.requestId,
    at: toIso(record.at),
  };
}

/** Which sessions made room for which is told by explanations, to those who may know these sessions. */
function toReason(code: string, { by: _, victims: __, ...data }: Record<string, unknown>): SessionView['reason'] {
  return { code, message: explainReason(code), data: Object.keys(data).length > 0 ? data : null };
}

/** From PostgreSQL's text. */
export function toIso(moment: string): string {
  return new Date(moment).toISOString();
}

/** Numeric columns show trailing zeros. */
export function plainAmounts(texts: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, amountToText(amountFromText(text))]));
}
