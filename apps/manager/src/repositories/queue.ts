import {
  holdingStatuses,
  occupyingStatuses,
  type SessionResult,
  type SessionStatus,
  type SessionType,
} from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import type { GroupHistory } from '@backend.ai/scheduler';
import { type SQL, sql } from 'drizzle-orm';

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
  /** Since when it waits: later than its creation when it started anew. */
  readonly queuedAt: string;
  readonly priority: number;
  /** What it was queued with, where it lost some by giving up. */
  readonly requestedPriority: number | null;
  readonly jobPriority: number;
  readonly isPreemptible: boolean;
  readonly startsNotBefore: string | null;
  readonly designatedAgents: readonly string[];
  readonly timeoutMs: number | null;
  readonly reason: string;
  /** Passes in which it was the first that lacked resources. */
  readonly attempts: number;
  /** Where it was before, when it starts anew: what it left there may still be there. */
  readonly previousAgents: readonly string[];
  readonly kernels: ReadonlyArray<{
    readonly kernelId: string;
    readonly role: 'main' | 'sub';
    readonly index: number;
    readonly slots: Record<string, string>;
    readonly image: string;
  }>;
  readonly architecture: string;
  /** A registry has its image. */
  readonly fetchable: boolean;
  /** Of its configuration; null: no registry has it. */
  readonly imageDigest: string | null;
  readonly imageManifestDigest: string | null;
  /** Of /dev/shm, in bytes, as text; null: the image has no say. */
  readonly shmem: string | null;
  readonly dependencies: ReadonlyArray<{
    readonly sessionId: string;
    readonly status: SessionStatus;
    readonly result: SessionResult;
  }>;
}

/** A session with kernels at agents, or with a place there that others still hold. */
export interface HoldingRecord {
  readonly sessionId: string;
  readonly resourceGroup: string;
  readonly accessKey: string;
  readonly userId: string;
  readonly projectId: string;
  readonly domainName: string;
  readonly type: SessionType;
  readonly status: SessionStatus;
  readonly priority: number;
  readonly jobPriority: number;
  readonly isPreemptible: boolean;
  readonly startedAt: string | null;
  readonly timeoutMs: number | null;
  readonly kernels: ReadonlyArray<{
    readonly kernelId: string;
    readonly agentId: string;
    readonly slots: Record<string, string>;
  }>;
}

const texts = (statuses: readonly string[]) => sql.raw(statuses.map((status) => `'${status}'`).join(', '));
const holding = texts([...holdingStatuses, 'RESERVED']);
const occupying = texts(occupyingStatuses);

/** A session that another one's explanation speaks of. */
export interface MentionedRecord {
  readonly id: string;
  readonly name: string;
  readonly userId: string;
  readonly domain: string;
  readonly status: SessionStatus;
  readonly statusChangedAt: string;
}

/** @see QueueRepository.marks */
export interface QueueMarks {
  readonly waiting: string;
  readonly holding: string;
  readonly agents: string;
  readonly rules: string;
}

/** The mark of these sessions, as `marks` has it of those in the database. */
export function markOf(sessions: Iterable<{ readonly sessionId: string; readonly priority?: number }>): string {
  let count = 0;
  let ids = 0;
  let priorities = 0;
  for (const { sessionId, priority = 0 } of sessions) {
    count += 1;
    ids += Number.parseInt(sessionId.slice(-8), 16);
    priorities += priority;
  }
  return count === 0 ? '0' : `${count} ${ids} ${priorities}`;
}

/** What the scheduler decides upon, of sessions: those that wait, and those that hold something. */
export class QueueRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** @param sessionIds Only those of them that wait; all when absent */
  async pending(sessionIds?: readonly string[]): Promise<PendingRecord[]> {
    const only =
      sessionIds === undefined
        ? sql``
        : sql`and s.id in (select w.value::uuid from jsonb_array_elements_text(${JSON.stringify(sessionIds)}::jsonb) w)`;
    const rows = await this.#db.execute<PendingRecord & Record<string, unknown>>(sql`
      select s.id as "sessionId", s.resource_group as "resourceGroup", s.access_key as "accessKey",
        s.user_id as "userId", s.project_id as "projectId", s.domain_name as "domainName", s.type,
        s.cluster_mode as "clusterMode", s.created_at as "createdAt",
        s.queued_at as "queuedAt", s.priority, (s.options->>'requestedPriority')::int as "requestedPriority", s.job_priority as "jobPriority",
        s.is_preemptible as "isPreemptible", s.starts_not_before as "startsNotBefore",
        s.designated_agents as "designatedAgents", (s.options->>'timeoutMs')::float8 as "timeoutMs",
        s.status_reason as "reason", s.placement_attempts as "attempts", s.architecture, s.image_registry_id is not null as fetchable,
        s.image_digest as "imageDigest", s.image_manifest_digest as "imageManifestDigest", s.options->>'shmem' as shmem,
        coalesce((select jsonb_agg(distinct a.agent_id) from kernels k join resource_allocations a on a.kernel_id = k.id
          where k.session_id = s.id), '[]') as "previousAgents",
        (select jsonb_agg(jsonb_build_object('kernelId', k.id, 'role', k.cluster_role, 'index', k.cluster_index,
            'slots', k.requested_slots, 'image', k.image) order by k.cluster_role, k.cluster_index)
          from kernels k where k.session_id = s.id) as kernels,
        (select coalesce(jsonb_agg(jsonb_build_object('sessionId', d.id, 'status', d.status, 'result', d.result)), '[]')
          from session_dependencies sd join sessions d on d.id = sd.depends_on where sd.session_id = s.id) as dependencies
      from sessions s where s.status = 'PENDING' ${only} order by s.priority desc, s.created_at, s.id`);
    return [...rows];
  }

  async holding(): Promise<HoldingRecord[]> {
    const rows = await this.#db.execute<HoldingRecord & Record<string, unknown>>(sql`
      select s.id as "sessionId", s.resource_group as "resourceGroup", s.access_key as "accessKey",
        s.user_id as "userId", s.project_id as "projectId", s.domain_name as "domainName", s.type, s.status,
        s.priority, s.job_priority as "jobPriority", s.is_preemptible as "isPreemptible", s.started_at as "startedAt",
        (s.options->>'timeoutMs')::float8 as "timeoutMs",
        (select coalesce(jsonb_agg(jsonb_build_object('kernelId', k.id, 'agentId', k.agent_id,
            'slots', k.requested_slots)), '[]')
          from kernels k where k.session_id = s.id and k.agent_id is not null and k.status in (${holding})) as kernels
      from sessions s where s.status in (${occupying}) order by s.status_changed_at, s.id`);
    return [...rows];
  }

  /**
   * What tells whether somebody else changed what the scheduler decides upon: which sessions wait and which hold something,
   * to be compared with those that are known, and texts that are equal as long as agents and rules are. Rules that were
   * changed and changed back are others (`xmin`): they may have been read in between. Not so for key pairs, whose rows change
   * with their use.
   */
  async marks(): Promise<QueueMarks> {
    const sumOf = (statuses: SQL): SQL => sql`
      (select concat_ws(' ', count(*), sum(('x' || right(s.id::text, 8))::bit(32)::bigint), sum(s.priority))
        from sessions s where s.status in (${statuses}))`;
    const [row] = await this.#db.execute<{ [mark in keyof QueueMarks]: string }>(sql`
      select ${sumOf(sql`'PENDING'`)} as waiting, ${sumOf(occupying)} as holding,
        concat_ws(' ',
          (select concat_ws(' ', count(*),
            sum(hashtext(concat_ws(' ', a.id, a.status, a.schedulable, a.resource_group, a.boot_id)))) from agents a),
          (select sum(r.capacity) from agent_resources r)) as agents,
        concat_ws(' ',
          (select sum(hashtext(g.xmin::text || g::text)) from resource_groups g),
          (select sum(hashtext(p.xmin::text || p::text)) from keypair_resource_policies p),
          (select sum(hashtext(p.xmin::text || p::text)) from user_resource_policies p),
          (select sum(hashtext(concat_ws(' ', k.access_key, k.resource_policy))) from keypairs k),
          (select sum(hashtext(concat_ws(' ', u.xmin, u.id, u.resource_policy))) from users u),
          (select sum(hashtext(concat_ws(' ', p.xmin, p.id, p.total_resource_slots))) from projects p),
          (select sum(hashtext(concat_ws(' ', d.xmin, d.name, d.total_resource_slots))) from domains d)) as rules`);
    return row!;
  }

  /**
   * Sessions that started in a resource group in the last six hours, and how they followed each other: the same until the
   * next one starts.
   */
  async starts(resourceGroup: string): Promise<GroupHistory> {
    const [row] = await this.#db.execute<{ samples: number; hours: number; lastStartAt: string | null }>(sql`
      select count(*)::int as samples, max(s.started_at) as "lastStartAt",
        coalesce(extract(epoch from max(s.started_at) - min(s.started_at)) / 3600, 0)::float8 as hours
      from sessions s where s.resource_group = ${resourceGroup} and s.started_at > now() - interval '6 hours'`);
    const { samples, hours, lastStartAt } = row!;
    return {
      samples,
      startsPerHour: hours > 0 ? (samples - 1) / hours : 0,
      ...(lastStartAt === null ? {} : { lastStartAt: Date.parse(lastStartAt) }),
    };
  }

  /** What may be told of sessions, by id, of those that are there. */
  async mentioned(sessionIds: readonly string[]): Promise<Map<string, MentionedRecord>> {
    if (sessionIds.length === 0) return new Map();
    const rows = await this.#db.execute<MentionedRecord & Record<string, unknown>>(sql`
      select s.id, s.name, s.user_id as "userId", s.domain_name as "domain", s.status,
        s.status_changed_at as "statusChangedAt"
      from jsonb_array_elements_text(${JSON.stringify(sessionIds)}::jsonb) w join sessions s on s.id = w.value::uuid`);
    return new Map(rows.map((row) => [row.id, row]));
  }
}
