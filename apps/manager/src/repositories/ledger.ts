import { holdingStatuses, kernelStatusesOf } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import { terminalTexts } from './session-rows.ts';
import { promotedFrom } from './transition-sql.ts';

export interface LedgerViolation {
  readonly kind:
    | 'balance-differs'
    | 'over-capacity'
    | 'open-without-kernel'
    | 'kernel-without-allocation'
    | 'states-differ'
    | 'left-behind'
    | 'waits-in-vain'
    | 'warm-slots-in-the-way'
    | 'warm-slot-is-kernel';
  readonly subject: string;
  readonly detail: Record<string, unknown>;
}

const holding = sql.raw(holdingStatuses.map((status) => `'${status}'`).join(', '));

const kernelsMayBeSo = sql.raw(
  `bool_and(case s.status ${Object.entries(kernelStatusesOf)
    .map(([status, kernels]) => `when '${status}' then k.status in (${kernels.map((k) => `'${k}'`).join(', ')})`)
    .join(' ')} end)`,
);

/** Of a session `d`. */
const longEnded = sql`(d.status in (${terminalTexts}) and d.terminated_at < now() - interval '1 minute')`;

/**
 * The invariants of the ledger, checked online: the balance of an agent is the sum of its open allocations and within
 * capacity (unless capacity shrank under them), what is announced counts apart, exactly the kernels at work hold
 * allocations and exactly those that are RESERVED have announced theirs, a session has all its kernels in states that go
 * with its own, it is where they lead it, and it does not wait for sessions that ended more than a minute ago. Warm slots
 * fit beside all that is in use and announced, and none of them is a kernel.
 */
export async function verifyLedger(db: Database): Promise<LedgerViolation[]> {
  const rows = await db.execute<LedgerViolation & Record<string, unknown>>(sql`
    with open as (
      select agent_id, slot_name, coalesce(sum(amount) filter (where not prereserved), 0) as amount,
        coalesce(sum(amount) filter (where prereserved), 0) as announced
      from resource_allocations where free_at is null group by agent_id, slot_name
    )
    select 'balance-differs' as kind, coalesce(r.agent_id, o.agent_id) || ' ' || coalesce(r.slot_name, o.slot_name) as subject,
      jsonb_build_object('used', r.used, 'allocated', coalesce(o.amount, 0), 'prereserved', r.prereserved,
        'announced', coalesce(o.announced, 0)) as detail
    from agent_resources r full join open o on o.agent_id = r.agent_id and o.slot_name = r.slot_name
    where (coalesce(r.used, 0) <> coalesce(o.amount, 0) or coalesce(r.prereserved, 0) <> coalesce(o.announced, 0))
      and (r.agent_id is not null or exists (select 1 from agents a where a.id = o.agent_id))
    union all
    select 'over-capacity', r.agent_id || ' ' || r.slot_name, jsonb_build_object('used', r.used, 'capacity', r.capacity)
    from agent_resources r where r.used > r.capacity and r.capacity > 0
    union all
    select 'open-without-kernel', ra.kernel_id::text, jsonb_build_object('status', k.status, 'slot', ra.slot_name)
    from resource_allocations ra join kernels k on k.id = ra.kernel_id
    where ra.free_at is null and (k.agent_id is distinct from ra.agent_id
      or case when ra.prereserved then k.status <> 'RESERVED' else k.status not in (${holding}) end)
    union all
    select 'kernel-without-allocation', k.id::text, jsonb_build_object('status', k.status, 'slot', w.key)
    from kernels k cross join lateral jsonb_each_text(k.requested_slots) w
    where k.status in (${holding}, 'RESERVED') and w.value::numeric > 0 and not exists (
      select 1 from resource_allocations ra
      where ra.kernel_id = k.id and ra.slot_name = w.key and ra.free_at is null and ra.amount = w.value::numeric
        and ra.prereserved = (k.status = 'RESERVED'))
    union all
    select 'states-differ', s.id::text, jsonb_build_object('session', s.status, 'kernels', jsonb_agg(k.status))
    from sessions s join kernels k on k.session_id = s.id
    group by s.id having not (${kernelsMayBeSo}) or count(*) <> s.cluster_size
    union all
    select 'left-behind', t.id::text, jsonb_build_object('session', t.from_status, 'kernels', jsonb_agg(f.first_status))
    from (select id, status as from_status, status as present, failure_policy from sessions where status not in (${terminalTexts})) t
    join (select session_id, status as first_status, cluster_role from kernels) f on f.session_id = t.id
    group by t.id, t.from_status, t.present, t.failure_policy having ${promotedFrom} is distinct from t.from_status
    union all
    select 'waits-in-vain', s.id::text, jsonb_build_object('reason', s.status_reason, 'sessions', jsonb_agg(d.id))
    from sessions s join session_dependencies sd on sd.session_id = s.id join sessions d on d.id = sd.depends_on
    where s.status = 'PENDING' and s.status_reason in ('dependency-unfinished', 'dependency-failed')
    group by s.id having bool_and(${longEnded}) or bool_or(${longEnded} and d.result <> 'success')
    union all
    select 'warm-slots-in-the-way', r.agent_id || ' ' || r.slot_name,
      jsonb_build_object('used', r.used, 'prereserved', r.prereserved, 'warm', w.amount, 'capacity', r.capacity)
    from agent_resources r join (
      select v.agent_id, s.key as slot_name, sum(s.value::numeric) as amount
      from warm_slots v cross join lateral jsonb_each_text(v.slots) s group by v.agent_id, s.key
    ) w on w.agent_id = r.agent_id and w.slot_name = r.slot_name
    where r.capacity > 0 and r.used + r.prereserved + w.amount > r.capacity and r.used + r.prereserved <= r.capacity
    union all
    select 'warm-slot-is-kernel', w.id::text, jsonb_build_object('status', k.status)
    from warm_slots w join kernels k on k.id = w.id`);
  return [...rows];
}
