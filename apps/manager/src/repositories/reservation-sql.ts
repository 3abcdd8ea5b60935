import { type SessionStatus, sourcesOf } from '@backend.ai/core';
import { fencedBy } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import {
  agentsAreOpen,
  asked,
  fitting,
  given,
  type PlacementWrite,
  pending,
  prepared,
  slotsGiven,
  type Term,
  taken,
  whole,
} from './placement-sql.ts';
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
export function reservation({ sessionId, kernels, victims, mode, epoch, why }: ReservationWrite & Term): SQL {
  const leave = JSON.stringify({ by: sessionId, mode });
  return sql`
      with ${given([{ sessionId, kernels, ...(why ? { why } : {}) }])}, ${pending(epoch)}, victim as materialized (
        select v.id, v.status as from_status, v.request_id from sessions v
        where v.id in (select w.value::uuid from jsonb_array_elements_text(${JSON.stringify(victims)}::jsonb) w)
          and v.status in (${mayLeave}) and exists (select 1 from target)
        order by v.id for update of v
      ), ${asked}, leaving as (
        select a.agent_id, a.slot_name, sum(a.amount) as amount
        from resource_allocations a join kernels k on k.id = a.kernel_id join sessions o on o.id = k.session_id
        where a.free_at is null and not a.prereserved and a.agent_id in (select agent_id from given)
          and (o.status in (${leaving}) or o.id in (select id from victim))
        group by a.agent_id, a.slot_name
      ), ${fitting(sql`r.capacity - r.prereserved - r.used
          + coalesce((select l.amount from leaving l where l.agent_id = r.agent_id and l.slot_name = r.slot_name), 0)`)},
      ${withinQuotas}, enough as materialized (
        ${whole} and t.id not in (select b.session_id from beyond_quotas b)
          and (select count(*) from victim) = ${victims.length}::int
      ), ${quotaTurns}, announced as (
        update agent_resources r set prereserved = r.prereserved + x.amount from (${taken}) x
        where r.agent_id = x.agent_id and r.slot_name = x.slot_name
      ), allocated as (
        insert into resource_allocations (kernel_id, slot_name, agent_id, amount, request_id, prereserved)
        select w.id, w.slot_name, w.agent_id, w.amount, t.request_id, true
        from enough e join target t on t.id = e.id join wanted w on w.session_id = t.id
        on conflict (kernel_id, slot_name) do update set agent_id = excluded.agent_id, amount = excluded.amount,
          allocated_at = now(), free_at = null, prereserved = true
      ), ${slotsGiven}, kernel as (
        update kernels k set status = 'RESERVED', status_reason = 'reserved', status_data = '{}',
          agent_id = p.agent_id, status_changed_at = now(), version = k.version + 1
        from placed p join enough e on e.id = p.session_id where k.id = p.id
      ), moving as (
        select t.id, t.from_status, t.request_id, 'RESERVED' as to_status, 'reserved' as reason,
          jsonb_build_object('victims', ${JSON.stringify(victims)}::jsonb,
            'agents', (select jsonb_object_agg(id, agent_id) from placed)) as data, t.why
        from target t join enough e on e.id = t.id
        union all
        select v.id, v.from_status, v.request_id, 'PREEMPTED', 'preempted', ${leave}::jsonb, '{}'
        from victim v where exists (select 1 from enough)
      ), changed as (
        update sessions s set status = m.to_status, status_reason = m.reason, status_data = m.data,
          status_changed_at = now(), version = s.version + 1
        from moving m where s.id = m.id
        returning s.id, s.name, s.access_key, s.status, s.status_reason
      ), history as (
        insert into session_history (id, session_id, from_status, to_status, reason, data, request_id)
        select gen_random_uuid(), m.id, m.from_status, m.to_status, m.reason, m.data || m.why, m.request_id
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
export function admission({ sessionId, epoch }: { readonly sessionId: string } & Term): SQL {
  return sql`
      with given as (
        select k.session_id, k.id as kernel_id, k.agent_id from kernels k
        where k.session_id = ${sessionId} and k.status = 'RESERVED'
      ), target as (
        select s.id, s.status as from_status, s.request_id, s.cluster_size, 0 as nth, '{}'::jsonb as why
        from sessions s
        where s.id = ${sessionId} and s.status = 'RESERVED' and ${fencedBy(epoch)} and ${agentsAreOpen}
        for update of s
      ), placed as (
        select k.id, k.id as was, k.session_id, k.agent_id, k.requested_slots
        from target t join kernels k on k.session_id = t.id where k.status = 'RESERVED'
        for update of k
      ), ${asked}, ${fitting(sql`r.capacity - r.used`)}, enough as materialized (${whole}), acquired as (
        update agent_resources r set used = r.used + x.amount, prereserved = r.prereserved - x.amount from (${taken}) x
        where r.agent_id = x.agent_id and r.slot_name = x.slot_name
      ), allocated as (
        update resource_allocations a set prereserved = false, allocated_at = now()
        from wanted w join enough e on e.id = w.session_id
        where a.kernel_id = w.id and a.slot_name = w.slot_name and a.free_at is null
      ), ${prepared('RESERVED')}`;
}
