import type { KernelUsage, Metrics, Scope, UsageKey, UsagePeriod } from '@backend.ai/contract';
import type { Database } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { ownedWithin, projectWithin } from './scopes.ts';

export interface UsageQuery {
  readonly from: string;
  readonly to: string;
  readonly by: UsageKey;
  readonly period: UsagePeriod;
  readonly user: string | null;
  readonly project: string | null;
  readonly domain: string | null;
  readonly scope: Scope;
  readonly limit: number;
}

export interface UsageRecord {
  /** PostgreSQL's text in UTC. */
  readonly period: string;
  readonly id: string;
  readonly name: string;
  readonly sessions: number;
  readonly used: Record<string, string>;
  /** See `UsageRow`. */
  readonly measured: Record<string, number>;
}

/** Moments are PostgreSQL's texts. */
export interface KernelUsageRecord extends Omit<KernelUsage, 'metrics'> {
  readonly projectId: string;
  readonly projectName: string;
  readonly domain: string;
  /** What was kept of its use when it ended; null: nothing was. */
  readonly metrics: Metrics | null;
}

/** What a scope used in a resource group on one day back from now. */
export interface DailyUsage {
  readonly resourceGroup: string;
  readonly scope: 'domain' | 'project' | 'user';
  readonly id: string;
  /** 0: the 24 hours until now. */
  readonly daysAgo: number;
  /** Amount times seconds by slot. */
  readonly used: Record<string, string>;
}

/**
 * Every time that something was held between two moments: what was given back, as it was recorded then, and what is held
 * now, from the ledger, until the present. An allocation is in one of the two and never in both, as one statement closes
 * it and records it.
 */
const spans = (from: SQL, to: SQL): SQL => sql`
  select u.session_id, u.session_name, u.domain_name, u.project_id, u.user_id, u.resource_group, slot.key as slot_name,
    slot.value::numeric as amount, greatest(u.began_at, ${from}) as began_at, least(u.ended_at, ${to}) as ended_at
  from usage_records u cross join lateral jsonb_each_text(u.slots) slot
  where u.ended_at > ${from} and u.began_at < ${to}
  union all
  select s.id, s.name, s.domain_name, s.project_id, s.user_id, s.resource_group, a.slot_name,
    a.amount, greatest(a.allocated_at, ${from}), least(now(), ${to})
  from resource_allocations a join kernels k on k.id = a.kernel_id join sessions s on s.id = k.session_id
  where a.free_at is null and not a.prereserved and a.allocated_at < ${to}`;

const keys: Readonly<Record<UsageKey, { readonly id: SQL; readonly name: SQL }>> = {
  session: { id: sql`h.session_id::text`, name: sql`h.session_name` },
  user: {
    id: sql`h.user_id::text`,
    name: sql`coalesce((select u.email from users u where u.id = h.user_id), h.user_id::text)`,
  },
  project: {
    id: sql`h.project_id::text`,
    name: sql`coalesce((select p.name from projects p where p.id = h.project_id), h.project_id::text)`,
  },
  domain: { id: sql`h.domain_name`, name: sql`h.domain_name` },
};

export class UsageRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Exact: sums over periods that follow each other are the sum over the whole. */
  async report(query: UsageQuery): Promise<UsageRecord[]> {
    const { by, period, user, project, domain, scope, limit } = query;
    const [from, to] = [sql`${query.from}::timestamptz`, sql`${query.to}::timestamptz`];
    const { id, name } = keys[by];
    const wanted = sql`${ownedWithin(scope, sql`h`)} and (${domain}::text is null or h.domain_name = ${domain})
      and (${user}::text is null or h.user_id in (select u.id from users u where u.email = ${user}))
      and (${project}::text is null or h.project_id in (select p.id from projects p where p.name = ${project}))`;
    // A period begins where its predecessor ends; the first and the last may be cut. Each row has those that it touches.
    const touched = (h: SQL): SQL =>
      period === 'whole'
        ? sql`select ${from} as starts_at, ${to} as ends_at`
        : sql`select step at time zone 'UTC' as starts_at, (step + ${`1 ${period}`}::interval) at time zone 'UTC' as ends_at
            from generate_series(date_trunc(${period}::text, ${h}.began_at at time zone 'UTC'), ${h}.ended_at at time zone 'UTC',
              ${`1 ${period}`}::interval) step`;
    const rows = await this.#db.execute<UsageRecord & Record<string, unknown>>(sql`
      with held as (${spans(from, to)}), parts as (
        select p.starts_at, ${id} as id, ${name} as name, h.session_id, h.slot_name, h.amount
          * extract(epoch from least(h.ended_at, p.ends_at) - greatest(h.began_at, p.starts_at)) as used
        from held h cross join lateral (${touched(sql`h`)}) p
        where h.ended_at > h.began_at and h.ended_at > p.starts_at and ${wanted}
      ), measured as (
        select p.starts_at, ${id} as id, ${name} as name, extract(epoch from h.ended_at - h.began_at)::float8 as lasted, h.measured,
          extract(epoch from least(h.ended_at, p.ends_at, ${to}) - greatest(h.began_at, p.starts_at, ${from}))::float8 as within
        from usage_records h cross join lateral (${touched(sql`h`)}) p
        where h.measured is not null and h.ended_at > h.began_at and h.ended_at > ${from} and h.began_at < ${to}
          and h.ended_at > p.starts_at and p.ends_at > ${from} and p.starts_at < ${to} and ${wanted}
      ), counted as (
        select m.starts_at, m.id, m.name, c.key, sum(c.amount) as amount
        from measured m cross join lateral (
          select key, value::float8 * m.within / m.lasted as amount from jsonb_each_text(m.measured->'counted')
        ) c group by m.starts_at, m.id, m.name, c.key
        union all
        select starts_at, id, name, 'memoryPeakBytes', max((measured->>'memoryPeakBytes')::float8)
        from measured where measured->>'memoryPeakBytes' is not null group by starts_at, id, name
      ), sums as (
        select starts_at, id, name, slot_name, sum(used) as used from parts group by starts_at, id, name, slot_name
      ), counts as (
        select starts_at, id, name, count(distinct session_id)::int as sessions from parts group by starts_at, id, name
      ), held_by as (
        select starts_at, id, name, jsonb_object_agg(slot_name, trim_scale(used)::text) as used
        from sums group by starts_at, id, name
      ), measured_of as (
        select starts_at, id, name, jsonb_object_agg(key, round(amount::numeric, 3)) as measured
        from counted group by starts_at, id, name
      )
      select c.starts_at as "period", c.id, c.name, c.sessions, u.used, coalesce(m.measured, '{}') as measured
      from counts c join held_by u using (starts_at, id, name) left join measured_of m using (starts_at, id, name)
      order by c.starts_at, c.name, c.id limit ${limit}::int`);
    return [...rows];
  }

  /** The first of the filters that names nobody whom the scope has in it. */
  async unknownFilter(
    query: Pick<UsageQuery, 'user' | 'project' | 'domain' | 'scope'>,
  ): Promise<'user' | 'project' | 'domain' | undefined> {
    const { user, project, domain, scope } = query;
    const own = scope.extent === 'all' ? sql`true` : sql`d.name = ${scope.domain}`;
    const users = sql`select u.id as user_id, u.domain_name, null::uuid as project_id from users u where u.email = ${user}`;
    const [row] = await this.#db.execute<{ unknown: 'user' | 'project' | 'domain' | null }>(sql`
      select case
        when ${user}::text is not null and not exists (select 1 from (${users}) h where ${ownedWithin(scope, sql`h`)})
          then 'user'
        when ${project}::text is not null
          and not exists (select 1 from projects p where p.name = ${project} and ${projectWithin(scope)}) then 'project'
        when ${domain}::text is not null and not exists (select 1 from domains d where d.name = ${domain} and ${own})
          then 'domain' end as "unknown"`);
    return row?.unknown ?? undefined;
  }

  /**
   * Every attempt to run a kernel that held something between two moments, with as much as is still known of it: what is
   * recorded outlives sessions.
   */
  async kernels(query: {
    readonly from: string;
    readonly to: string;
    readonly projects: readonly string[];
    readonly limit: number;
  }): Promise<KernelUsageRecord[]> {
    const [from, to] = [sql`${query.from}::timestamptz`, sql`${query.to}::timestamptz`];
    const rows = await this.#db.execute<KernelUsageRecord & Record<string, unknown>>(sql`
      with wanted as (select value::uuid as id from jsonb_array_elements_text(${JSON.stringify(query.projects)}::jsonb)),
      held as (
        select u.kernel_id, u.session_id, u.session_name, u.domain_name, u.project_id, u.user_id, u.access_key, u.agent_id,
          u.slots, u.began_at, u.ended_at
        from usage_records u where u.ended_at > ${from} and u.began_at < ${to}
        union all
        select k.id, s.id, s.name, s.domain_name, s.project_id, s.user_id, s.access_key, a.agent_id,
          jsonb_object_agg(a.slot_name, trim_scale(a.amount)::text), min(a.allocated_at), null
        from resource_allocations a join kernels k on k.id = a.kernel_id join sessions s on s.id = k.session_id
        where a.free_at is null and not a.prereserved and now() > ${from}
        group by k.id, s.id, a.agent_id having min(a.allocated_at) < ${to}
      )
      select h.kernel_id as "kernelId", h.session_id as "sessionId", h.session_name as "sessionName",
        h.access_key as "accessKey", u.email, u.full_name as "fullName", h.agent_id as "agent",
        coalesce(k.image, s.image) as "image", s.cluster_mode as "clusterMode", h.slots,
        coalesce((s.options->>'shmem')::float8, 0) as "sharedMemoryBytes", h.began_at as "beganAt", h.ended_at as "endedAt",
        coalesce(k.status, 'TERMINATED') as "status", coalesce(k.status_reason, t.reason) as "reason",
        coalesce((select jsonb_object_agg(c.to_status, c.at order by c.at) from session_history c
          where c.session_id = h.session_id and (c.kernel_id is null or c.kernel_id = h.kernel_id)), '{}') as "history",
        coalesce(k.status_data->'statistics', t.statistics)->'metrics' as "metrics",
        h.project_id as "projectId", coalesce(p.name, h.project_id::text) as "projectName", h.domain_name as "domain"
      from held h left join sessions s on s.id = h.session_id left join kernels k on k.id = h.kernel_id
        left join kernel_attempts t on t.kernel_id = h.kernel_id left join projects p on p.id = h.project_id
        left join users u on u.id = h.user_id
      where not exists (select 1 from wanted) or h.project_id in (select w.id from wanted w)
      order by h.domain_name, "projectName", h.project_id, h.began_at, h.kernel_id limit ${query.limit}::int`);
    return [...rows];
  }

  /**
   * What domains, projects and users used in each resource group, day by day back from now: what the scheduler's fair
   * share lets decay.
   */
  async dailyUsage(lookbackDays: number): Promise<DailyUsage[]> {
    const rows = await this.#db.execute<DailyUsage & Record<string, unknown>>(sql`
      with days as (
        select back as days_ago, now() - (back + 1) * interval '24 hours' as starts_at,
          now() - back * interval '24 hours' as ends_at
        from generate_series(0, ${lookbackDays}::int - 1) back
      ), held as (${spans(sql`now() - ${lookbackDays}::int * interval '24 hours'`, sql`now()`)}), parts as (
        select d.days_ago, h.resource_group, h.domain_name, h.project_id, h.user_id, h.slot_name, h.amount
          * extract(epoch from least(h.ended_at, d.ends_at) - greatest(h.began_at, d.starts_at)) as used
        from held h join days d on h.began_at < d.ends_at and h.ended_at > d.starts_at
      ), sums as (
        select p.days_ago, p.resource_group, each.scope, each.id, p.slot_name, sum(p.used) as used
        from parts p cross join lateral (values ('domain', p.domain_name), ('project', p.project_id::text),
          ('user', p.user_id::text)) as each (scope, id)
        group by p.days_ago, p.resource_group, each.scope, each.id, p.slot_name
      )
      select resource_group as "resourceGroup", scope, id, days_ago as "daysAgo",
        jsonb_object_agg(slot_name, round(used, 3)::text) as "used"
      from sums group by resource_group, scope, id, days_ago order by resource_group, scope, id, days_ago`);
    return [...rows];
  }
}
