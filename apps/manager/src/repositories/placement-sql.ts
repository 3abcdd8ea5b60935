import type { SessionStatus } from '@backend.ai/core';
import { fencedBy } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { quotaTurns, withinQuotas } from './quotas.ts';

/** Where each kernel of one session goes. */
export interface PlacementWrite {
  readonly sessionId: string;
  readonly kernels: ReadonlyArray<{ readonly kernelId: string; readonly agentId: string }>;
  readonly epoch: number;
  /** Kept in history: why there. */
  readonly why?: Readonly<Record<string, unknown>>;
}

/**
 * PENDING → SCHEDULED → PREPARING of a session with all its kernels, and what they ask for taken from their agents: all
 * of it or nothing. Balances are locked in the order of agents and slots, as everywhere. Ends with one row for each
 * kernel, as agents need it.
 */
export function placement({ sessionId, kernels, epoch, why = {} }: PlacementWrite): SQL {
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
      ), placed as (
        select k.id, k.session_id, g.agent_id, k.requested_slots
        from target t join kernels k on k.session_id = t.id join given g on g.kernel_id = k.id
        where k.status = 'PENDING'
        for update of k
      ), ${asked}, room as materialized (
        select r.agent_id, r.slot_name, u.amount, r.used + r.prereserved + u.amount <= r.capacity as fits
        from agent_resources r join sums u on u.agent_id = r.agent_id and u.slot_name = r.slot_name
        order by r.agent_id, r.slot_name for update of r
      ), ${withinQuotas}, enough as materialized (
        select (select count(*) from room where fits) = (select count(*) from sums)
          and (select count(*) from placed) = (select t.cluster_size from target t)
          and (select ok from within_quotas) as ok
      ), ${quotaTurns(sql`(select ok from enough)`)},
      acquired as (
        update agent_resources r set used = r.used + room.amount from room
        where r.agent_id = room.agent_id and r.slot_name = room.slot_name and (select ok from enough)
      ), allocated as (
        insert into resource_allocations (kernel_id, slot_name, agent_id, amount, request_id)
        select w.id, w.slot_name, w.agent_id, w.amount, t.request_id from target t cross join wanted w
        where (select ok from enough)
        on conflict (kernel_id, slot_name) do update
          set agent_id = excluded.agent_id, amount = excluded.amount, allocated_at = now(), free_at = null,
            prereserved = false
      ), ${prepared('PENDING', why)}`;
}

/** Whether all agents of `given` may be given the session `s` now: what the decision knew of them may be old. */
export const agentsAreOpen = sql`not exists (select 1 from given g where not exists (select 1 from agents a
            where a.id = g.agent_id and a.status = 'ALIVE' and a.schedulable and a.resource_group = s.resource_group))`;

/** What every kernel of `placed` asks for, and what that is of each agent together. */
export const asked = sql`wanted as (
        select p.id, p.agent_id, w.key as slot_name, w.value::numeric as amount
        from placed p cross join lateral jsonb_each_text(p.requested_slots) w where w.value::numeric > 0
      ), sums as (
        select agent_id, slot_name, sum(amount) as amount from wanted group by agent_id, slot_name
      )`;

/**
 * The rest of a statement that gives the session of `target` the agents of `placed`, if `enough` is so: by way of
 * SCHEDULED to PREPARING. @param why Kept in history.
 */
export function prepared(from: SessionStatus, why: Readonly<Record<string, unknown>>): SQL {
  return sql`changed as (
        update sessions s set status = 'PREPARING', status_reason = 'progress', status_data = '{}',
          status_changed_at = now(), scheduled_at = now(), version = s.version + 1
        from target t where s.id = t.id and (select ok from enough)
        returning s.id, s.name, s.access_key, s.status, s.status_reason
      ), kernel as (
        update kernels k set status = 'PREPARING', status_reason = 'progress', status_data = '{}',
          agent_id = p.agent_id, status_changed_at = now(), version = k.version + 1
        from placed p where k.id = p.id and (select ok from enough)
      ), history as (
        insert into session_history (id, session_id, kernel_id, from_status, to_status, reason, data, request_id, at)
        select gen_random_uuid(), t.id, p.kernel_id, step.from_status, step.to_status, 'progress',
          case when step.nth > 0 then '{}'::jsonb
            when p.kernel_id is null then p.data || ${JSON.stringify(why)}::jsonb else p.data end, t.request_id,
          now() + step.nth * interval '1 microsecond'
        from target t cross join (
          select null::uuid as kernel_id, jsonb_build_object('agent', min(agent_id)) as data from placed
            having count(*) = 1
          union all
          select null, jsonb_build_object('agents', jsonb_object_agg(id, agent_id)) from placed having count(*) > 1
          union all
          select id, jsonb_build_object('agent', agent_id) from placed where (select count(*) from placed) > 1
        ) p cross join (values (0, ${from}::text, 'SCHEDULED'), (1, 'SCHEDULED', 'PREPARING'))
          as step (nth, from_status, to_status)
        where (select ok from enough)
      )
      select c.id as "sessionId", p.id as "kernelId", p.agent_id as "agentId", c.name,
        c.access_key as "accessKey", t.from_status as "from", c.status as "to", c.status_reason as "reason",
        t.request_id as "requestId", ${startColumns}
      from target t join changed c on c.id = t.id join sessions s on s.id = t.id join placed p on p.session_id = t.id
      join kernels k on k.id = p.id order by k.cluster_role, k.cluster_index`;
}

/** What agents need besides, of a session `s` and its kernel `k`. */
export const startColumns = sql.raw(`
  k.image, k.cluster_role as "clusterRole", k.cluster_index as "clusterIndex", k.hostname,
  k.requested_slots as "slots", s.environ, s.options, s.cluster_size as "clusterSize",
  (select jsonb_agg(jsonb_build_object('path', d.path, 'mode', d.permission, 'content', d.content) order by d.path)
    from dotfiles d where d.access_key = s.access_key) as dotfiles`);
