import { amountToText, occupyingStatuses, slotsFromTexts } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import type { Owner, QuotaViolation } from '@backend.ai/scheduler';
import { type SQL, sql } from 'drizzle-orm';
import { terminalTexts } from './session-rows.ts';

/**
 * Limits of resource policies, of projects and of domains, in the statements that could exceed them.
 *
 * What counts is the ledger: open entries of kernels, wherever they are; a session that waits holds nothing, and neither
 * does one that has ended. Private sessions (of the system) have a limit on their number and count for nothing else.
 *
 * A statement sees one snapshot, so that two that decide at once would both find room. That is why whoever decides under
 * a limit counts up the scope's row of `quota_turns` in the same statement: the later one then loses against the earlier
 * one, and is repeated with what that took. Scopes without limits take no turn and cost nothing.
 */

export type QuotaKind = 'keypair' | 'user' | 'project' | 'domain';

/** What a scope may hold. */
export interface LimitRecord {
  readonly kind: QuotaKind;
  /** Access key, id of the user or project, name of the domain. */
  readonly id: string;
  /** Amounts by slot; `Infinity` is unlimited. */
  readonly limits: Record<string, string>;
  /** Slots that `limits` does not name: 0 if closed, else unlimited. */
  readonly closed: boolean;
  /** 0: unlimited. */
  readonly maxSessions: number;
  readonly maxPrivateSessions: number;
}

/** What a scope may hold, and holds now. */
export interface QuotaRecord extends LimitRecord {
  readonly used: Record<string, string>;
  readonly sessions: number;
  readonly privateSessions: number;
}

const occupying = sql.raw(occupyingStatuses.map((status) => `'${status}'`).join(', '));

/** The limits of the scopes of `s`, a row of sessions (or one with its columns); the id also in the column of its kind. */
const scopesOfSession = sql`
  select 'keypair' as kind, k.access_key as id, k.access_key, null::uuid as user_id, null::uuid as project_id,
    null::text as domain_name, p.total_resource_slots as limits,
    p.default_for_unspecified = 'LIMITED' as closed, p.max_concurrent_sessions as max_sessions,
    p.max_concurrent_sftp_sessions as max_private_sessions
  from keypairs k join keypair_resource_policies p on p.name = k.resource_policy where k.access_key = s.access_key
  union all
  select 'user', u.id::text, null, u.id, null, null, p.total_resource_slots, false, 0, 0
  from users u join user_resource_policies p on p.name = u.resource_policy where u.id = s.user_id
  union all
  select 'project', p.id::text, null, null, p.id, null, p.total_resource_slots, false, 0, 0
  from projects p where p.id = s.project_id
  union all
  select 'domain', d.name, null, null, null, d.name, d.total_resource_slots, false, 0, 0
  from domains d where d.name = s.domain_name`;

/** Live sessions of the scope `q`: a branch for each kind, as each has its index, and those of other kinds find nothing. */
const liveSessions: SQL = sql`(${sql.join(
  ['access_key', 'user_id', 'project_id', 'domain_name'].map((name) => {
    const column = sql.identifier(name);
    return sql`select id, type, status from sessions where ${column} = q.${column} and status not in (${terminalTexts})`;
  }),
  sql` union all `,
)}) o`;

/**
 * CTEs for a placement, after one named `target` with ids of sessions and their order: `quotas` has the scopes with a
 * limit of each, and `beyond_quotas` the sessions that may not hold all that they asked for besides what is held and what
 * those before them ask for. To be followed by `quotaTurns`.
 */
export const withinQuotas: SQL = sql`quotas as materialized (
    select t.id as session_id, t.nth, q.*, s.requested_slots, s.type = 'system' as private
    from target t join sessions s on s.id = t.id cross join lateral (${scopesOfSession}) q
    where q.closed or q.limits <> '{}' or q.max_sessions > 0 or q.max_private_sessions > 0
  ), scopes as materialized (
    select distinct q.kind, q.id, q.access_key, q.user_id, q.project_id, q.domain_name from quotas q
  ), counts as materialized (
    select q.kind, q.id, o.type = 'system' as private, count(*) as sessions
    from scopes q cross join lateral ${liveSessions}
    where o.status in (${occupying}) and o.id not in (select id from target) group by q.kind, q.id, o.type = 'system'
  ), held as materialized (
    select q.kind, q.id, a.slot_name, sum(a.amount) as amount
    from scopes q cross join lateral ${liveSessions}
    join kernels k on k.session_id = o.id join resource_allocations a on a.kernel_id = k.id
    where a.free_at is null and o.type <> 'system' and o.id not in (select id from target)
    group by q.kind, q.id, a.slot_name
  ), beyond_quotas as materialized (
    select q.session_id
    from (
      select q.session_id, q.kind, q.id, q.private, case when q.private then q.max_private_sessions else q.max_sessions end
        as most, row_number() over (partition by q.kind, q.id, q.private order by q.nth) as nth
      from quotas q
    ) q left join counts c on c.kind = q.kind and c.id = q.id and c.private = q.private
    where q.most > 0 and q.most < coalesce(c.sessions, 0) + q.nth
    union
    select w.session_id
    from (
      select q.session_id, q.kind, q.id, q.closed, q.limits, w.key as slot_name,
        sum(w.value::numeric) over (partition by q.kind, q.id, w.key order by q.nth) as amount
      from quotas q cross join lateral jsonb_each_text(q.requested_slots) w
      where not q.private and w.value::numeric > 0
    ) w left join held h on h.kind = w.kind and h.id = w.id and h.slot_name = w.slot_name
    where (w.closed or w.limits ? w.slot_name)
      and coalesce((w.limits ->> w.slot_name)::numeric, 0) < w.amount + coalesce(h.amount, 0)
  )`;

/**
 * A CTE of the same statement, which takes the turns of the sessions of `enough`. In one order, so that no two wait for
 * each other.
 */
export const quotaTurns: SQL = sql`turns as (
    insert into quota_turns (scope)
    select distinct q.kind || ':' || q.id from quotas q join enough e on e.id = q.session_id order by 1
    on conflict (scope) do update set turn = quota_turns.turn + 1
  )`;

/** Names of the policy's fields that may refuse a session before it waits. */
export const queueLimits = [
  'max_containers_per_session',
  'max_priority',
  'max_pending_session_count',
  'max_pending_session_resource_slots',
] as const;
export type QueueLimit = (typeof queueLimits)[number];

const isWaiting = sql`o.status not in (${terminalTexts}) and o.status not in (${occupying})`;

/**
 * A CTE for the insertion of sessions, after `wish` (with their amounts of all kernels together) and `owner`:
 * `queue_limit` has a row for each, whose `refused` names the limit that stands against it besides what waits and those
 * before it, or is null, and whose `counted` says whether that took counting: then whoever inserts takes a turn.
 */
export const withinQueueLimits: SQL = sql`queue_limit as materialized (
    select w.nth, case
      when p.max_containers_per_session > 0 and jsonb_array_length(w.kernels) > p.max_containers_per_session
        then 'max_containers_per_session'
      when w.priority > p.max_priority then 'max_priority'
      when p.max_pending_session_count > 0 and p.max_pending_session_count < (
          select count(*) from sessions o where o.access_key = k.access_key and ${isWaiting}
        ) + (select count(*) from wish b where b.nth <= w.nth)
        then 'max_pending_session_count'
      when exists (
          select 1 from jsonb_each_text(p.max_pending_session_resource_slots) l
          where l.value::numeric < (
              select coalesce(sum((b.slots ->> l.key)::numeric), 0) from wish b where b.nth <= w.nth) + (
              select coalesce(sum((o.requested_slots ->> l.key)::numeric), 0) from sessions o
              where o.access_key = k.access_key and ${isWaiting}))
        then 'max_pending_session_resource_slots'
      end as refused,
      p.max_pending_session_count > 0 or p.max_pending_session_resource_slots <> '{}' as counted
    from wish w cross join owner o join keypairs k on k.access_key = o.access_key
    join keypair_resource_policies p on p.name = k.resource_policy
  )`;

const liveOwners = sql`
  select distinct access_key, user_id, project_id, domain_name from sessions where status not in (${terminalTexts})`;

const limitedScopes = (owners: SQL): SQL => sql`
  select distinct q.* from (${owners}) s cross join lateral (${scopesOfSession}) q
  where q.closed or q.limits <> '{}' or q.max_sessions > 0 or q.max_private_sessions > 0`;

export class QuotaRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Of every scope with a limit that a live session belongs to. */
  async limited(): Promise<QuotaRecord[]> {
    return await this.#read(limitedScopes(liveOwners));
  }

  /** Everybody who has a live session. */
  async liveOwners(): Promise<Owner[]> {
    const rows = await this.#db.execute<Owner & Record<string, unknown>>(sql`
      select o.access_key as keypair, o.user_id as "user", o.project_id as project, o.domain_name as domain
      from (${liveOwners}) o`);
    return [...rows];
  }

  /** Of every scope with a limit that one of these belongs to; what is held is for the scheduler to count. */
  async limits(owners: readonly Owner[]): Promise<LimitRecord[]> {
    const given = sql`
      select o.keypair as access_key, o."user" as user_id, o.project as project_id, o.domain as domain_name
      from jsonb_to_recordset(${JSON.stringify(owners)}::jsonb) as o (keypair text, "user" uuid, project uuid, domain text)`;
    const rows = await this.#db.execute<LimitRecord & Record<string, unknown>>(sql`
      select q.kind, q.id, q.limits, q.closed, q.max_sessions as "maxSessions",
        q.max_private_sessions as "maxPrivateSessions" from (${limitedScopes(given)}) q`);
    return [...rows];
  }

  /** Of the scopes that a session of this key pair in this project would belong to. Those that are not there are absent. */
  async of(owner: { accessKey: string; userId: string; projectId: string; domain: string }): Promise<QuotaRecord[]> {
    return await this.#read(sql`
      select q.* from (select ${owner.accessKey}::text as access_key, ${owner.userId}::uuid as user_id,
        ${owner.projectId}::uuid as project_id, ${owner.domain}::text as domain_name) s
      cross join lateral (${scopesOfSession}) q`);
  }

  /** What stands between a session that waits and its placement, of its scopes. */
  async violations(sessionId: string): Promise<QuotaViolation[]> {
    const rows = await this.#db.execute<QuotaRecord & AskedRecord & Record<string, unknown>>(sql`
      with asked as (select s.* from sessions s where s.id = ${sessionId}::uuid),
      found as (${quotasOf(sql`select q.* from asked s cross join lateral (${scopesOfSession}) q`)})
      select f.*, s.type = 'system' as "isPrivate", s.requested_slots as slots from found f cross join asked s`);
    return [...rows].flatMap((row) => violationsOf(row, row));
  }

  async #read(scopes: SQL): Promise<QuotaRecord[]> {
    return [...(await this.#db.execute<QuotaRecord & Record<string, unknown>>(quotasOf(scopes)))];
  }
}

function quotasOf(scopes: SQL): SQL {
  return sql`
      with q as (${scopes})
      select q.kind, q.id, q.limits, q.closed, q.max_sessions as "maxSessions",
        q.max_private_sessions as "maxPrivateSessions", coalesce(n.sessions, 0) as sessions,
        coalesce(n.private_sessions, 0) as "privateSessions", coalesce(h.used, '{}') as used
      from q cross join lateral (
        select count(*) filter (where o.type <> 'system')::int as sessions,
          count(*) filter (where o.type = 'system')::int as private_sessions
        from ${liveSessions} where o.status in (${occupying})
      ) n cross join lateral (
        select jsonb_object_agg(sums.slot_name, trim_scale(sums.amount)::text) as used from (
          select a.slot_name, sum(a.amount) as amount
          from ${liveSessions} join kernels k on k.session_id = o.id join resource_allocations a on a.kernel_id = k.id
          where a.free_at is null and o.type <> 'system' group by a.slot_name
        ) sums
      ) h
      order by q.kind, q.id`;
}

/** What a session that waits asks for. */
interface AskedRecord {
  readonly isPrivate: boolean;
  readonly slots: Readonly<Record<string, string>>;
}

function violationsOf(quota: QuotaRecord, { isPrivate, slots }: AskedRecord): QuotaViolation[] {
  const { kind: scope, id, limits, closed, used } = quota;
  const [most, count] = isPrivate
    ? [quota.maxPrivateSessions, quota.privateSessions]
    : [quota.maxSessions, quota.sessions];
  const number = { scope, id, slot: isPrivate ? 'private-sessions' : 'sessions', asked: '1', used: String(count) };
  const violations: QuotaViolation[] = most > 0 && count >= most ? [{ ...number, limit: String(most) }] : [];
  if (isPrivate) return violations;
  const held = slotsFromTexts(used);
  for (const [slot, asked] of Object.entries(slotsFromTexts(slots))) {
    const limit = limits[slot] ?? (closed ? '0' : 'Infinity');
    if (limit === 'Infinity' || asked + (held[slot] ?? 0n) <= (slotsFromTexts({ [slot]: limit })[slot] ?? 0n)) continue;
    violations.push({ scope, id, slot, asked: amountToText(asked), used: amountToText(held[slot] ?? 0n), limit });
  }
  return violations;
}
