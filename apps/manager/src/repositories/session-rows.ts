import type { FailurePolicy, KernelStatus, SessionResult, SessionStatus, SessionType } from '@backend.ai/core';
import { servingStatuses, terminalStatuses } from '@backend.ai/core';
import { sql } from 'drizzle-orm';

/** What a session was created with and no query has to look into: the column `options`. Absent: not asked for. */
export interface SessionOptions {
  readonly startupCommand?: string;
  readonly timeoutMs?: number;
  readonly bootstrapScript?: string;
  readonly preopenPorts?: readonly number[];
  /** In bytes. */
  readonly shmem?: string;
  /** Where it lost some by giving up; written by the database. */
  readonly requestedPriority?: number;
  /** Who it was made for, as of then; written by the database. */
  readonly owner?: { readonly id: string; readonly email: string; readonly name: string };
}

/** A session with its kernels, as one round trip reads it. Moments are PostgreSQL's text in UTC. */
export interface SessionRecord {
  readonly id: string;
  readonly name: string;
  readonly domainName: string;
  readonly projectId: string;
  readonly projectName: string;
  readonly userId: string;
  readonly accessKey: string;
  readonly type: SessionType;
  readonly image: string;
  readonly architecture: string;
  readonly tag: string | null;
  readonly clusterMode: 'single-node' | 'multi-node';
  readonly clusterSize: number;
  readonly priority: number;
  readonly jobPriority: number;
  readonly isPreemptible: boolean;
  readonly failurePolicy: FailurePolicy;
  readonly startsNotBefore: string | null;
  readonly designatedAgents: string[];
  readonly callbackUrl: string | null;
  /** Without long texts. */
  readonly options: SessionOptions;
  readonly resourceGroup: string;
  readonly status: SessionStatus;
  readonly statusReason: string;
  readonly statusData: Record<string, unknown>;
  readonly result: SessionResult;
  readonly requestedSlots: Record<string, string>;
  readonly createdAt: string;
  readonly statusChangedAt: string;
  readonly scheduledAt: string | null;
  readonly pausedAt: string | null;
  readonly startedAt: string | null;
  readonly terminatedAt: string | null;
  readonly requestId: string;
  readonly version: number;
  readonly kernels: KernelRecord[];
}

/** With what may be long. */
export interface SessionDetails extends SessionRecord {
  readonly environ: Record<string, string>;
  readonly startupCommand: string | null;
  readonly bootstrapScript: string | null;
  /** Ids. */
  readonly dependencies: string[];
}

export interface KernelRecord {
  readonly id: string;
  readonly agentId: string | null;
  readonly clusterRole: 'main' | 'sub';
  readonly clusterIndex: number;
  readonly status: KernelStatus;
  readonly exitCode: number | null;
  readonly requestedSlots: Record<string, string>;
  /** Steps, isolation; the kept log is left out. */
  readonly data: Record<string, unknown>;
}

/** Columns of a `SessionRecord`; expects `s` to be sessions. */
export const sessionColumns = sql.raw(`
  s.id, s.name, s.domain_name as "domainName", s.project_id as "projectId",
  coalesce((select p.name from projects p where p.id = s.project_id), '') as "projectName",
  s.user_id as "userId", s.access_key as "accessKey", s.type, s.image, s.architecture, s.tag,
  s.cluster_mode as "clusterMode", s.cluster_size as "clusterSize", s.priority, s.job_priority as "jobPriority",
  s.is_preemptible as "isPreemptible", s.failure_policy as "failurePolicy", s.starts_not_before as "startsNotBefore",
  s.designated_agents as "designatedAgents", s.callback_url as "callbackUrl",
  s.options - '{startupCommand,bootstrapScript,owner}'::text[] as "options",
  s.resource_group as "resourceGroup", s.status, s.status_reason as "statusReason", s.status_data as "statusData",
  s.result, s.requested_slots as "requestedSlots", s.created_at as "createdAt",
  s.status_changed_at as "statusChangedAt", s.scheduled_at as "scheduledAt", s.started_at as "startedAt", s.paused_at as "pausedAt",
  s.terminated_at as "terminatedAt", s.request_id as "requestId", s.version,
  (select jsonb_agg(jsonb_build_object('id', k.id, 'agentId', k.agent_id, 'clusterRole', k.cluster_role,
      'clusterIndex', k.cluster_index, 'status', k.status, 'exitCode', k.exit_code, 'requestedSlots', k.requested_slots,
      'data', k.status_data - '{log,console,statistics}'::text[]) order by k.cluster_role, k.cluster_index)
    from kernels k where k.session_id = s.id) as "kernels"`);

/** What a `SessionDetails` has besides. */
export const detailColumns = sql.raw(`
  s.environ, s.options->>'startupCommand' as "startupCommand", s.options->>'bootstrapScript' as "bootstrapScript",
  (select coalesce(jsonb_agg(d.depends_on order by d.depends_on), '[]')
    from session_dependencies d where d.session_id = s.id) as "dependencies"`);

const terminalList = terminalStatuses.map((status) => `'${status}'`).join(', ');
/** Constants for conditions. */
export const terminalTexts = sql.raw(terminalList);
export const servingTexts = sql.raw(servingStatuses.map((status) => `'${status}'`).join(', '));
