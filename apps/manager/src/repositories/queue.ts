import type { SessionResult, SessionStatus, SessionType } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

/** A session that waits, with all that decides about its turn. */
export interface PendingRecord {
  readonly sessionId: string;
  readonly resourceGroup: string;
  readonly accessKey: string;
  readonly userId: string;
  readonly projectId: string;
  readonly domainName: string;
  readonly type: SessionType;
  readonly clusterMode: 'single-node' | 'multi-node';
  /** PostgreSQL's text in UTC, as all moments here. */
  readonly createdAt: string;
  readonly priority: number;
  readonly jobPriority: number;
  readonly isPreemptible: boolean;
  readonly startsNotBefore: string | null;
  readonly designatedAgents: readonly string[];
  readonly timeoutMs: number | null;
  readonly reason: string;
  readonly kernels: ReadonlyArray<{
    readonly kernelId: string;
    readonly role: 'main' | 'sub';
    readonly index: number;
    readonly slots: Record<string, string>;
    readonly image: string;
  }>;
  readonly architecture: string;
  readonly dependencies: ReadonlyArray<{
    readonly sessionId: string;
    readonly status: SessionStatus;
    readonly result: SessionResult;
  }>;
}

/** Sessions that wait to be placed. */
export class QueueRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async pending(): Promise<PendingRecord[]> {
    const rows = await this.#db.execute<PendingRecord & Record<string, unknown>>(sql`
      select s.id as "sessionId", s.resource_group as "resourceGroup", s.access_key as "accessKey",
        s.user_id as "userId", s.project_id as "projectId", s.domain_name as "domainName", s.type,
        s.cluster_mode as "clusterMode", s.created_at as "createdAt", s.priority, s.job_priority as "jobPriority",
        s.is_preemptible as "isPreemptible", s.starts_not_before as "startsNotBefore",
        s.designated_agents as "designatedAgents", (s.options->>'timeoutMs')::float8 as "timeoutMs",
        s.status_reason as "reason", s.architecture,
        (select jsonb_agg(jsonb_build_object('kernelId', k.id, 'role', k.cluster_role, 'index', k.cluster_index,
            'slots', k.requested_slots, 'image', k.image) order by k.cluster_role, k.cluster_index)
          from kernels k where k.session_id = s.id) as kernels,
        (select coalesce(jsonb_agg(jsonb_build_object('sessionId', d.id, 'status', d.status, 'result', d.result)), '[]')
          from session_dependencies sd join sessions d on d.id = sd.depends_on where sd.session_id = s.id) as dependencies
      from sessions s where s.status = 'PENDING' order by s.priority desc, s.created_at, s.id`);
    return [...rows];
  }
}
