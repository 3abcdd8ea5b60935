import type { SessionStatus } from '@backend.ai/core';
import { fencedBy } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { constantSql } from './constant-sql.ts';
import { quotaTurns, withinQuotas } from './quotas.ts';

/** Where each kernel of one session goes. */
export interface PlacementWrite {
  readonly sessionId: string;
  readonly kernels: ReadonlyArray<{
    readonly kernelId: string;
    readonly agentId: string;
    /** The slot of that agent which the kernel becomes: its id is the kernel's from then on. */
    readonly warmSlot?: string;
  }>;
  /** Kept in history: why there. */
  readonly why?: Readonly<Record<string, unknown>>;
}

/** Under which a leader writes. */
export interface Term {
  readonly epoch: number;
}

/**
 * PENDING → SCHEDULED → PREPARING of sessions with all their kernels, and what they ask for taken from their agents: all
 * of it or nothing for each session. Rows are locked in the order of their ids, balances in that of agents and slots, as
 * everywhere. Ends with one row for each kernel, as agents need it.
 *
 * Of agents and of limits a session gets what is left by those before it in the list, as if all of them were placed:
 * whoever is left out for that may find room by itself.
 */
export function placement(writes: readonly PlacementWrite[], epoch: number): SQL {
  return sql`with ${given(writes)}, ${pending(epoch)}, ${constantPlacement}`;
}

/** CTEs `wish`, one row for each session, and `given`, one for each of its kernels. */
export function given(writes: readonly PlacementWrite[]): SQL {
  const wishes = writes.map(({ sessionId, kernels, why = {} }, nth) => ({ nth, session_id: sessionId, kernels, why }));
  return sql`wish as (
      select * from jsonb_to_recordset(${JSON.stringify(wishes)}::jsonb)
        as w (nth int, session_id uuid, kernels jsonb, why jsonb)
    ), given as (
      select w.session_id, g."kernelId" as kernel_id, g."agentId" as agent_id, g."warmSlot" as warm_slot
      from wish w
      cross join lateral jsonb_to_recordset(w.kernels) as g ("kernelId" uuid, "agentId" text, "warmSlot" uuid)
    )`;
}

/** Whether a slot `w` was made under the rules that its resource group `q` has now. */
export const slotIsCurrent = sql.raw(`w.egress = q.egress
        and w.may_scatter = coalesce((q.options->>'allowFractionalResourceFragmentation')::boolean, true)`);

/**
 * CTEs `target` and `placed`: the sessions of `given` that wait, and their kernels: `was` is the id that each has had, which
 * one that becomes a warm slot changes. A slot that somebody else took is none, and the session is left out. Kernels are
 * looked up by a list of their ids, for the same reason as agents below.
 */
export function pending(epoch: number): SQL {
  return sql`target as (
      select s.id, s.status as from_status, s.request_id, s.cluster_size, w.nth, w.why
      from wish w join sessions s on s.id = w.session_id
      where s.status = 'PENDING' and ${fencedBy(epoch)} and ${agentsAreOpen}
      order by s.id for update of s
    ), slot as (
      select w.id, w.slots from warm_slots w join given g on g.warm_slot = w.id and g.agent_id = w.agent_id
      join warm_pools o on o.id = w.pool_id join resource_groups q on q.name = o.resource_group
      where w.status = 'ready' and ${slotIsCurrent}
      order by w.id for update of w
    ), placed as (
      select coalesce(g.warm_slot, k.id) as id, k.id as was, k.session_id, g.agent_id, k.requested_slots, g.warm_slot
      from target t join given g on g.session_id = t.id join kernels k on k.id = g.kernel_id and k.session_id = t.id
      where k.id = any (array(select kernel_id from given)) and k.status = 'PENDING' and (g.warm_slot is null
        or exists (select 1 from slot where slot.id = g.warm_slot and slot.slots = k.requested_slots))
      for update of k
    )`;
}

/**
 * Whether all agents of `given` may be given the session `s` now: what the decision knew of them may be old. Each is looked
 * up by itself: PostgreSQL takes `given` to be long, and would read all agents for a join.
 */
export const agentsAreOpen = sql`not exists (select 1 from given g where g.session_id = s.id
          and (select a.status = 'ALIVE' and a.schedulable and a.resource_group = s.resource_group
            from agents a where a.id = g.agent_id) is not true)`;

/** What every kernel of `placed` asks for, and what that is for each session of each agent together. */
export const asked = sql`wanted as (
        select p.session_id, p.id, p.agent_id, w.key as slot_name, w.value::numeric as amount
        from placed p cross join lateral jsonb_each_text(p.requested_slots) w where w.value::numeric > 0
      ), sums as (
        select t.nth, w.session_id, w.agent_id, w.slot_name, sum(w.amount) as amount
        from wanted w join target t on t.id = w.session_id group by t.nth, w.session_id, w.agent_id, w.slot_name
      )`;

/**
 * CTEs `room`, which locks balances, and `fitting`, whether the `sums` of a session fit besides those before it.
 * @param free Of a balance `r`: what may be given away.
 */
export function fitting(free: SQL): SQL {
  return sql`room as materialized (
        select r.agent_id, r.slot_name, ${free} as free from agent_resources r
        where (r.agent_id, r.slot_name) in (select u.agent_id, u.slot_name from sums u)
        order by r.agent_id, r.slot_name for update of r
      ), fitting as materialized (
        select u.session_id, u.agent_id, u.slot_name, u.amount, coalesce(r.free >= sum(u.amount)
          over (partition by u.agent_id, u.slot_name order by u.nth), false) as fits
        from sums u left join room r on r.agent_id = u.agent_id and r.slot_name = u.slot_name
      )`;
}

/** Sessions of `target` all of whose kernels are in `placed`, with nothing that does not fit. */
export const whole = sql`select t.id from target t
        where (select count(*) from placed p where p.session_id = t.id) = t.cluster_size
          and not exists (select 1 from fitting f where f.session_id = t.id and not f.fits)`;

/** What the sessions of `enough` take, of each balance together. */
export const taken = sql`select f.agent_id, f.slot_name, sum(f.amount) as amount
        from fitting f join enough e on e.id = f.session_id group by f.agent_id, f.slot_name`;

/**
 * CTEs `claimed` and `reclaimed`: the warm slots that sessions of `enough` take become theirs, and those go for whose agents
 * there is no room any more beside what these sessions take; those first that are not ready yet.
 */
export const slotsGiven = sql`claimed as (
        delete from warm_slots w using placed p, enough e where p.session_id = e.id and w.id = p.warm_slot
        returning w.id
      ), reclaimed as (
        delete from warm_slots w where w.id in (
          select h.id from (
            select v.id, v.agent_id, s.key as slot_name, sum(s.value::numeric)
              over (partition by v.agent_id, s.key order by v.status <> 'ready', v.created_at, v.id) as held
            from warm_slots v cross join lateral jsonb_each_text(v.slots) s
            where v.agent_id in (select p.agent_id from placed p) and v.id not in (
              select p.warm_slot from placed p join enough e on e.id = p.session_id where p.warm_slot is not null)
          ) h join room r on r.agent_id = h.agent_id and r.slot_name = h.slot_name
          join (${taken}) x on x.agent_id = h.agent_id and x.slot_name = h.slot_name
          where h.held > r.free - x.amount)
        returning w.id
      )`;

/**
 * The rest of a statement that gives the sessions of `enough` the agents of `placed`: by way of SCHEDULED to PREPARING.
 */
export function prepared(from: SessionStatus): SQL {
  return sql`changed as (
        update sessions s set status = 'PREPARING', status_reason = 'progress', status_data = '{}',
          status_changed_at = now(), scheduled_at = now(), version = s.version + 1
        from enough e where s.id = e.id
        returning s.id, s.name, s.access_key, s.status, s.status_reason
      ), kernel as (
        update kernels k set id = p.id, status = 'PREPARING', status_reason = 'progress', status_data = '{}',
          agent_id = p.agent_id, status_changed_at = now(), version = k.version + 1
        from placed p join enough e on e.id = p.session_id where k.id = p.was
      ), history as (
        insert into session_history (id, session_id, kernel_id, from_status, to_status, reason, data, request_id, at)
        select gen_random_uuid(), t.id, p.kernel_id, step.from_status, step.to_status, 'progress',
          case when step.nth > 0 then '{}'::jsonb
            when p.kernel_id is null then p.data || t.why else p.data end, t.request_id,
          now() + step.nth * interval '1 microsecond'
        from enough e join target t on t.id = e.id join (
          select session_id, null::uuid as kernel_id, case when count(*) = 1
              then jsonb_build_object('agent', min(agent_id))
              else jsonb_build_object('agents', jsonb_object_agg(id, agent_id)) end as data
          from placed group by session_id
          union all
          select p.session_id, p.id, jsonb_build_object('agent', p.agent_id)
          from placed p join target t on t.id = p.session_id where t.cluster_size > 1
        ) p on p.session_id = t.id
        cross join (values (0, ${sql.raw(`'${from}'`)}::text, 'SCHEDULED'), (1, 'SCHEDULED', 'PREPARING'))
          as step (nth, from_status, to_status)
      )
      select c.id as "sessionId", p.id as "kernelId", p.agent_id as "agentId", c.name,
        c.access_key as "accessKey", t.from_status as "from", c.status as "to", c.status_reason as "reason",
        t.request_id as "requestId", ${startColumns}${from === 'PENDING' ? sql`, p.warm_slot is not null or exists (select 1 from reclaimed) as "warmSlotsChanged"` : sql``}
      from target t join changed c on c.id = t.id join sessions s on s.id = t.id join placed p on p.session_id = t.id
      join kernels k on k.id = p.was order by t.nth, k.cluster_role, k.cluster_index`;
}

/** What agents need besides, of a session `s` and its kernel `k`. */
export const startColumns = sql.raw(`
  k.image, k.cluster_role as "clusterRole", k.cluster_index as "clusterIndex", k.hostname,
  k.requested_slots as "slots", s.environ, s.options, s.cluster_size as "clusterSize",
  (select g.egress from resource_groups g where g.name = s.resource_group) as egress,
  s.image_digest as "imageDigest", s.image_manifest_digest as "imageManifestDigest",
  (select jsonb_build_object('id', r.id, 'username', r.username, 'passwordEncrypted', r.password_encrypted)
    from container_registries r where r.id = s.image_registry_id) as "imageRegistry",
  (select jsonb_agg(jsonb_build_object('path', d.path, 'mode', d.permission, 'content', d.content, 'owner',
      case when d.access_key is not null then 'keypair' when d.project_id is not null then 'project' else 'domain' end)
      order by d.path)
    from dotfiles d where d.access_key = s.access_key
      or ((d.project_id = s.project_id or d.domain_name = s.domain_name) and (d.by_superadmin
        or not exists (select 1 from users u where u.id = s.user_id and u.role = 'superadmin')))) as dotfiles,
  (select (g.options->>'allowFractionalResourceFragmentation')::boolean
    from resource_groups g where g.name = s.resource_group) as "allowFractionalResourceFragmentation"`);

const constantPlacement = constantSql(sql`${asked}, ${fitting(sql`r.capacity - r.used - r.prereserved`)},
      ${withinQuotas}, enough as materialized (${whole} and t.id not in (select b.session_id from beyond_quotas b)),
      ${quotaTurns}, acquired as (
        update agent_resources r set used = r.used + x.amount from (${taken}) x
        where r.agent_id = x.agent_id and r.slot_name = x.slot_name
      ), allocated as (
        insert into resource_allocations (kernel_id, slot_name, agent_id, amount, request_id)
        select w.id, w.slot_name, w.agent_id, w.amount, t.request_id
        from enough e join target t on t.id = e.id join wanted w on w.session_id = t.id
        on conflict (kernel_id, slot_name) do update
          set agent_id = excluded.agent_id, amount = excluded.amount, allocated_at = now(), free_at = null,
            prereserved = false
      ), ${slotsGiven}, ${prepared('PENDING')}`);
