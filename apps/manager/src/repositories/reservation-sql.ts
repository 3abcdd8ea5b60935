import { type SessionStatus, sourcesOf } from '@backend.ai/core';
import { fencedBy } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { agentsAreOpen, asked, type PlacementWrite, prepared } from './placement-sql.ts';
import { quotaTurns, withinQuotas } from './quotas.ts';

/**
 * A session whose place others still hold. What it asks for is announced at its agents beside what is in use: nothing
 * else is placed there, and it starts when that fits into what the agents have.
 */
export interface ReservationWrite extends PlacementWrite {
  readonly victims: readonly string[];
  /** What becomes of them. */
  readonly mode: 'terminate' | 'reschedule';
}

const texts = (statuses: readonly SessionStatus[]): SQL => sql.raw(statuses.map((status) => `'${status}'`).join(', '));
const mayLeave = texts(sourcesOf('PREEMPTED'));
/** What they hold is free soon. */
const leaving = texts(['PREEMPTED', 'RESCHEDULING', 'RESTARTING', 'TERMINATING']);

/**
 * PENDING → RESERVED and victims → PREEMPTED. What stays in use, what is announced and what is asked for must fit into
 * the capacity together. Ends with one row for each session that moved.
 */
export function reservation({ sessionId, kernels, victims, mode, epoch, why = {} }: ReservationWrite): SQL {
  const leave = JSON.stringify({ by: sessionId, mode });
  return sql`
      with given as (
        select g."kernelId" as kernel_id, g."agentId" as agent_id
        from jsonb_to_recordset(${JSON.stringify(kernels)}::jsonb) as g ("kernelId" uuid, "agentId" text)
      ), target as (
        select s.id, s.status as from_status, s.request_id, s.cluster_size
        from sessions s
        where s.id = ${sessionId} and s.status = 'PENDING' and ${fencedBy(epoch)}
          and ${agentsAreOpen}
        for update of s
      ), victim as materialized (
        select v.id, v.status as from_status, v.request_id from sessions v
        where v.id in (select w.value::uuid from jsonb_array_elements_text(${JSON.stringify(victims)}::jsonb) w)
          and v.status in (${mayLeave}) and exists (select 1 from target)
        order by v.id for update of v
      ), placed as (
        select k.id, k.session_id, g.agent_id, k.requested_slots
        from target t join kernels k on k.session_id = t.id join given g on g.kernel_id = k.id
        where k.status = 'PENDING'
        for update of k
      ), ${asked}, leaving as (
        select a.agent_id, a.slot_name, sum(a.amount) as amount
        from resource_allocations a join kernels k on k.id = a.kernel_id join sessions o on o.id = k.session_id
        where a.free_at is null and not a.prereserved and a.agent_id in (select agent_id from given)
          and (o.status in (${leaving}) or o.id in (select id from victim))
        group by a.agent_id, a.slot_name
      ), room as materialized (
        select r.agent_id, r.slot_name, u.amount,
          r.used - coalesce((select l.amount from leaving l where l.agent_id = r.agent_id and l.slot_name = r.slot_name), 0)
            + r.prereserved + u.amount <= r.capacity as fits
        from agent_resources r join sums u on u.agent_id = r.agent_id and u.slot_name = r.slot_name
        order by r.agent_id, r.slot_name for update of r
      ), ${withinQuotas}, enough as materialized (
        select (select count(*) from room where fits) = (select count(*) from sums)
          and (select count(*) from placed) = (select t.cluster_size from target t)
          and (select count(*) from victim) = ${victims.length}::int
          and (select ok from within_quotas) as ok
      ), ${quotaTurns(sql`(select ok from enough)`)},
      announced as (
        update agent_resources r set prereserved = r.prereserved + room.amount from room
        where r.agent_id = room.agent_id and r.slot_name = room.slot_name and (select ok from enough)
      ), allocated as (
        insert into resource_allocations (kernel_id, slot_name, agent_id, amount, request_id, prereserved)
        select w.id, w.slot_name, w.agent_id, w.amount, t.request_id, true from target t cross join wanted w
        where (select ok from enough)
        on conflict (kernel_id, slot_name) do update set agent_id = excluded.agent_id, amount = excluded.amount,
          allocated_at = now(), free_at = null, prereserved = true
      ), kernel as (
        update kernels k set status = 'RESERVED', status_reason = 'reserved', status_data = '{}',
          agent_id = p.agent_id, status_changed_at = now(), version = k.version + 1
        from placed p where k.id = p.id and (select ok from enough)
      ), moving as (
        select t.id, t.from_status, t.request_id, 'RESERVED' as to_status, 'reserved' as reason,
          jsonb_build_object('victims', ${JSON.stringify(victims)}::jsonb,
            'agents', (select jsonb_object_agg(id, agent_id) from placed)) as data
        from target t where (select ok from enough)
        union all
        select v.id, v.from_status, v.request_id, 'PREEMPTED', 'preempted', ${leave}::jsonb
        from victim v where (select ok from enough)
      ), changed as (
        update sessions s set status = m.to_status, status_reason = m.reason, status_data = m.data,
          status_changed_at = now(), version = s.version + 1
        from moving m where s.id = m.id
        returning s.id, s.name, s.access_key, s.status, s.status_reason
      ), history as (
        insert into session_history (id, session_id, from_status, to_status, reason, data, request_id)
        select gen_random_uuid(), m.id, m.from_status, m.to_status, m.reason,
          case when m.to_status = 'RESERVED' then m.data || ${JSON.stringify(why)}::jsonb else m.data end, m.request_id
        from moving m
      )
      select c.id as "sessionId", k.id as "kernelId", coalesce(p.agent_id, k.agent_id) as "agentId", c.name,
        c.access_key as "accessKey", m.from_status as "from", c.status as "to", c.status_reason as "reason",
        m.request_id as "requestId"
      from changed c join moving m on m.id = c.id
      join lateral (select * from kernels k where k.session_id = c.id order by k.cluster_role, k.cluster_index limit 1) k
        on true
      left join placed p on p.id = k.id`;
}

/** RESERVED → SCHEDULED → PREPARING: what was announced becomes what is in use. Limits were asked when it was announced. */
export function admission({ sessionId, epoch }: { readonly sessionId: string; readonly epoch: number }): SQL {
  return sql`
      with target as (
        select s.id, s.status as from_status, s.request_id, s.cluster_size
        from sessions s
        where s.id = ${sessionId} and s.status = 'RESERVED' and ${fencedBy(epoch)}
          and not exists (select 1 from kernels k where k.session_id = s.id
            and not exists (select 1 from agents a where a.id = k.agent_id and a.status = 'ALIVE'))
        for update of s
      ), placed as (
        select k.id, k.session_id, k.agent_id, k.requested_slots
        from target t join kernels k on k.session_id = t.id where k.status = 'RESERVED'
        for update of k
      ), ${asked}, room as materialized (
        select r.agent_id, r.slot_name, u.amount, r.used + u.amount <= r.capacity as fits
        from agent_resources r join sums u on u.agent_id = r.agent_id and u.slot_name = r.slot_name
        order by r.agent_id, r.slot_name for update of r
      ), enough as materialized (
        select (select count(*) from room where fits) = (select count(*) from sums)
          and (select count(*) from placed) = (select t.cluster_size from target t) as ok
      ), acquired as (
        update agent_resources r set used = r.used + room.amount, prereserved = r.prereserved - room.amount from room
        where r.agent_id = room.agent_id and r.slot_name = room.slot_name and (select ok from enough)
      ), allocated as (
        update resource_allocations a set prereserved = false, allocated_at = now() from wanted w
        where a.kernel_id = w.id and a.slot_name = w.slot_name and a.free_at is null and (select ok from enough)
      ), ${prepared('RESERVED', {})}`;
}
