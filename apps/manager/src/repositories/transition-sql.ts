import { type KernelStatus, promotions, type SessionStatus, servingStatuses, terminalStatuses } from '@backend.ai/core';
import { fencedBy } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { audited } from './audit.ts';
import { constantSql } from './constant-sql.ts';
import { storableJson } from './json-text.ts';
import type {
  KernelFact,
  KernelFactKind,
  KernelTransitionOptions,
  TransitionOptions,
  TransitionTarget,
} from './session-transitions.ts';

/**
 * The one statement of a change of state, up to its final SELECT, which reads `target` (the sessions as they were, with
 * what is to be written of each), `moved` (their kernels) and `changed` (the sessions as they are).
 *
 * A session's row changes with every change of one of its kernels, if only its version: statements about two kernels of
 * one session then meet at that row, and the later one sees what the earlier one did.
 */

type AnyOptions = TransitionOptions | KernelTransitionOptions;

const terminal = texts(terminalStatuses);
const serving = texts(servingStatuses);
/** A job whose kernel is gone before it told how it ended has failed. A session that somebody ended has no result. */
const failedBatch = sql`case when s.type = 'batch' and s.result = 'undefined' and t.from_status <> 'TERMINATING'
    and d.to_status in ('TERMINATING', ${terminal}) then 'failure' else s.result end`;

/** Sessions go to `to` and take their kernels along. */
export function sessionChange(options: TransitionOptions, from: readonly SessionStatus[]): SQL {
  const { to, target } = options;
  const sessions = [sql`s.status in (${texts(from)})`, ...sessionConditions(target)];
  const kernels = kernelConditions(target);
  if (kernels.length > 0) {
    const live = sql`k.status not in (${terminal})`;
    sessions.push(sql`exists (select 1 from kernels k
      where k.session_id = s.id and ${sql.join([live, ...kernels], sql` and `)})`);
  }
  if (target.kernelsEnded !== undefined) {
    const left = sql`exists (select 1 from kernels k where k.session_id = s.id and k.status not in (${terminal}))`;
    sessions.push(target.kernelsEnded ? sql`not ${left}` : left);
  }
  const { result, lowerPriorityBy } = options;
  return sql`with ${chosen(options, sessions, text(to))}, ${movement({
    ...movementOfSessions(to),
    keepReasonOfEnding: options.keepReasonOfEnding ?? false,
    result: result === undefined ? sql`s.result` : sql`${result}`,
    ...(lowerPriorityBy === undefined ? {} : { lowerPriorityBy }),
  })} ${audited(options.audit, sql`changed`)}`;
}

/** Kernels go to `to`, and their sessions where `promotions` say. */
export function kernelChange(options: KernelTransitionOptions, from: readonly KernelStatus[]): SQL {
  const { to, target } = options;
  const selected = sql.join([sql`k.status in (${texts(from)})`, ...kernelConditions(target)], sql` and `);
  const sessions = [sql`s.id in (select k.session_id from kernels k where ${selected})`, ...sessionConditions(target)];
  return sql`with ${chosen(options, sessions, sql`s.status`)}, ${movement({
    ...movementOfKernels(to, selected),
    keepReasonOfEnding: options.keepReasonOfEnding ?? false,
  })} ${audited(options.audit, sql`changed`)}`;
}

/** All sessions for which the conditions hold, for the same reason. */
function chosen(options: AnyOptions, conditions: readonly SQL[], present: SQL): SQL {
  const fenced = options.epoch === undefined ? [] : [fencedBy(options.epoch)];
  return sql`target as (
      select ${targetColumns(present)}
      from sessions s cross join (select 0 as nth, ${options.reason}::text as reason,
        ${storableJson(options.data ?? {})}::jsonb as data, ${options.requestId ?? null}::text as request_id,
        null::uuid as kernel_id, '{}'::jsonb as kernel_data, null::int as exit_code, null::text as result) w
      where ${sql.join([...conditions, ...fenced], sql` and `)}
      order by s.id for update of s
    )`;
}

/**
 * The same for what agents tell of many kernels, of each with its own facts. Of several kernels of one session the first
 * moves and the others do not: what becomes of a session is decided from one kernel to the next.
 */
export function factChange(kind: KernelFactKind, facts: readonly KernelFact[]): SQL {
  const items = facts.map(({ agentId, kernelId, event, requestId, ...fact }, nth) => ({
    ...{
      nth,
      kernel_id: kernelId,
      agent_id: agentId,
      request_id: requestId,
      reason: fact.reason,
      data: fact.data ?? {},
    },
    ...{ kernel_data: fact.kernelData ?? {}, exit_code: fact.exitCode ?? null, result: fact.result },
    ...{ seq: event?.seq, counted: event?.count ?? false },
  }));
  return sql`with wish as (
      select distinct on (k.session_id) w.*, k.session_id
      from jsonb_to_recordset(${storableJson(items)}::jsonb) as w (nth int, kernel_id uuid, agent_id text, reason text,
        data jsonb, request_id text, kernel_data jsonb, exit_code int, result text, seq bigint, counted boolean)
      join kernels k on k.id = w.kernel_id and k.agent_id = w.agent_id${movementOf(kind)}`;
}

const movementsOf = new Map<KernelFactKind, SQL>();

/** From the conditions of `factChange` on, which no fact changes. */
function movementOf(kind: KernelFactKind): SQL {
  const known = movementsOf.get(kind);
  if (known) return known;
  const { to, from, passes, keepReasonOfEnding = false } = kind;
  const ofKernels = kind.moves === 'kernels';
  const among = ofKernels ? sql`k.status in (${texts(from)})` : sql`k.status not in (${terminal})`;
  const passing = passes
    ? sql`k.status in (${texts(passes.from)}) and exists (select 1 from sessions s
        where s.id = k.session_id and s.cluster_size = 1 and s.status in (${texts(passes.from)}))`
    : sql`false`;
  const present = passes
    ? sql`case when s.cluster_size = 1 and s.status in (${texts(passes.from)}) then ${text(passes.by)} else s.status end`
    : sql`s.status`;
  const part = constantSql(sql`
      where (${among} or ${passing}) and (w.seq is null
        or exists (select 1 from agents a where a.id = w.agent_id and a.last_event_seq < w.seq))
      order by k.session_id, w.nth
    ), target as (
      select ${targetColumns(ofKernels ? present : text(to))}
      from wish w join sessions s on s.id = w.session_id
      where ${ofKernels ? sql`true` : sql`s.status in (${texts(from)})`}
      order by s.id for update of s
    ), ${movement({
      ...(ofKernels ? movementOfKernels(to as KernelStatus, sql`k.id = t.kernel_id`) : movementOfSessions(to)),
      keepReasonOfEnding,
      ...(ofKernels ? {} : { result: sql`coalesce(t.result, s.result)` }),
      ...(passes ? { passes: passes.by } : {}),
    })}, counted as (
      update agents a set last_event_seq = c.seq
      from (select w.agent_id, max(w.seq) as seq from wish w join target t on t.nth = w.nth where w.counted
        group by w.agent_id) c
      where a.id = c.agent_id and a.last_event_seq < c.seq
    )`);
  movementsOf.set(kind, part);
  return part;
}

/** Of a session `s` and what is wished of it, `w`. `present` is where it is before promotions. */
function targetColumns(present: SQL): SQL {
  return sql`s.id, s.status as from_status, ${present} as present, s.request_id, s.status_reason, s.status_data,
        s.cluster_size, s.failure_policy, w.nth, w.reason, w.data, coalesce(w.request_id, s.request_id) as cause,
        w.kernel_id, w.kernel_data, w.exit_code, w.result`;
}

interface Movement {
  /** Of kernels `k`: the change is about them. */
  readonly selected: SQL;
  /** Of kernels `k`: where they go first. */
  readonly kernelStatus: SQL;
  /** Where sessions are before promotions; undefined: where they were. */
  readonly present: SessionStatus | undefined;
  readonly releases: boolean;
  /** They start anew. */
  readonly again: boolean;
  readonly keepReasonOfEnding: boolean;
  readonly result?: SQL;
  readonly lowerPriorityBy?: number;
  /** A state that sessions went through if they are said to be there and were not. */
  readonly passes?: SessionStatus;
}

function movementOfSessions(to: SessionStatus) {
  return {
    selected: sql`false`,
    kernelStatus: kernelsGoingTo(to),
    present: to,
    releases: to === 'PENDING' || terminalStatuses.includes(to),
    again: to === 'PENDING',
  };
}

function movementOfKernels(to: KernelStatus, selected: SQL) {
  return {
    selected,
    kernelStatus: sql`case when ${selected} then ${text(to)} else k.status end`,
    present: undefined,
    releases: terminalStatuses.includes(to),
    again: false,
  };
}

/** What becomes of `target`. */
function movement(parts: Movement): SQL {
  const { selected, kernelStatus, present, releases, again, keepReasonOfEnding, lowerPriorityBy, passes } = parts;
  const ending = keepReasonOfEnding ? sql`t.from_status = 'TERMINATING'` : sql`false`;
  return sql`fact as (
      select k.id, k.session_id, k.agent_id, k.hostname, k.cluster_role, k.cluster_index, k.status as from_status,
        k.status_reason, ${selected} as selected, ${kernelStatus} as first_status
      from kernels k join target t on t.id = k.session_id
      for update of k
    ), next as (
      select t.id, t.present, ${promoted(present)} as rule, min(f.hostname) filter (where f.selected) as hostname
      from target t join fact f on f.session_id = t.id group by t.id, t.present, t.failure_policy
    ), decided as (
      select n.id, n.hostname, coalesce(r.to_status, n.present) as to_status, r.reason
      from next n left join (values ${ruleRows}) as r (nth, to_status, reason) on r.nth = n.rule
    ), moved as (
      select f.*, t.reason, t.data, t.cause, t.kernel_data, t.cluster_size, d.reason as promotion,
        case when f.id = t.kernel_id then t.exit_code end as exit_code, case
          when d.to_status = 'TERMINATING' and f.first_status not in (${terminal}) then 'TERMINATING'
          else f.first_status end as to_status,
        ${
          again
            ? sql`true`
            : sql`f.first_status <> f.from_status or (d.to_status = 'TERMINATING'
          and f.first_status not in (${terminal}) and f.from_status <> 'TERMINATING')`
        } as moves
      from fact f join target t on t.id = f.session_id join decided d on d.id = f.session_id
    ), changed as (
      update sessions s set version = s.version + 1, status = d.to_status,
        status_reason = case when d.to_status = t.from_status or ${ending} then t.status_reason
          else coalesce(d.reason, t.reason) end,
        status_data = case when d.to_status = t.from_status then t.status_data
          when ${ending} then t.data || t.status_data
          when d.reason is not null then jsonb_build_object('kernel', d.hostname, 'reason', t.reason) || t.data
          else t.data end,
        status_changed_at = case when d.to_status = t.from_status then s.status_changed_at else now() end,
        paused_at = case when d.to_status in (${serving}) then s.paused_at end,
        resumed_at = case when d.to_status in (${serving}) then s.resumed_at end,
        started_at = case when d.to_status = 'RUNNING' and t.from_status <> 'RUNNING' then now()
          when d.to_status = 'PENDING' then null else s.started_at end,
        queued_at = case when d.to_status = 'PENDING' and t.from_status in ('RESTARTING', 'RESCHEDULING') then now()
          else s.queued_at end,
        placement_attempts = case when d.to_status = 'PENDING' then 0 else s.placement_attempts end,
        scheduled_at = case when d.to_status = 'PENDING' then null else s.scheduled_at end,
        terminated_at = case when d.to_status in (${terminal}) then now() else s.terminated_at end
        , result = ${parts.result ?? failedBatch}
        ${
          lowerPriorityBy === undefined
            ? sql``
            : sql`, priority = greatest(0, s.priority - ${lowerPriorityBy}::int),
          options = jsonb_build_object('requestedPriority', s.priority) || s.options`
        }
      from target t join decided d on d.id = t.id where s.id = t.id
      returning s.id, s.name, s.access_key, s.status, s.status_reason
    ), kernel as (
      update kernels k set version = k.version + 1, status = m.to_status,
        status_reason = ${
          keepReasonOfEnding
            ? sql`case when m.from_status = 'TERMINATING' then m.status_reason else coalesce(m.promotion, m.reason) end`
            : sql`coalesce(m.promotion, m.reason)`
        },
        status_changed_at = now(),
        started_at = case m.to_status when 'RUNNING' then now() when 'PENDING' then null else k.started_at end,
        terminated_at = case when m.to_status in (${terminal}) then now() when m.to_status = 'PENDING' then null
          else k.terminated_at end
        ${
          again
            ? sql`, id = gen_random_uuid(), agent_id = null, exit_code = null, status_data = '{}'`
            : sql`, exit_code = coalesce(k.exit_code, m.exit_code),
        status_data = case when m.selected then k.status_data || m.kernel_data else k.status_data end`
        }
      from moved m where k.id = m.id and m.moves
    ), history as (
      insert into session_history (id, session_id, kernel_id, from_status, to_status, reason, data, request_id, at)
      select gen_random_uuid(), t.id, null::uuid, t.${sql.raw(passes ? 'present' : 'from_status')}, c.status, c.status_reason,
        t.data, t.cause, now() ${passes ? sql`+ interval '1 microsecond'` : sql``}
      from target t join changed c on c.id = t.id where c.status <> t.from_status
      ${
        passes
          ? sql`union all
      select gen_random_uuid(), t.id, null, t.from_status, t.present, 'progress', '{}', t.cause, now()
      from target t where t.present <> t.from_status`
          : sql``
      }
      union all
      select gen_random_uuid(), m.session_id, m.id, m.from_status, m.to_status, coalesce(m.promotion, m.reason), m.data,
        m.cause, now()
      from moved m where m.cluster_size > 1 and m.to_status <> m.from_status
    ) ${again ? earlierAttempts : sql``} ${releases ? constantRelease : sql``}`;
}

function sessionConditions(target: TransitionTarget): SQL[] {
  const conditions: SQL[] = [];
  if (target.sessionId !== undefined) conditions.push(sql`s.id = ${target.sessionId}`);
  if (target.olderThanMs !== undefined) {
    conditions.push(sql`s.status_changed_at < now() - ${target.olderThanMs}::int * interval '1 millisecond'`);
  }
  if (target.waitedTooLong) {
    conditions.push(sql`exists (select 1 from resource_groups g
      where g.name = s.resource_group and (g.options->>'pendingTimeout')::float8 > 0
        and s.queued_at < now() - (g.options->>'pendingTimeout')::float8 * interval '1 second')`);
  }
  if (target.preemption !== undefined) {
    conditions.push(sql`coalesce(s.status_data->>'mode', 'terminate') = ${target.preemption}`);
  }
  return conditions;
}

function kernelConditions(target: TransitionTarget): SQL[] {
  const conditions: SQL[] = [];
  if (target.kernelId !== undefined) conditions.push(sql`k.id = ${target.kernelId}`);
  if (target.agentId !== undefined) conditions.push(sql`k.agent_id = ${target.agentId}`);
  if (target.agentLostForMs !== undefined) {
    conditions.push(sql`k.agent_id in (select a.id from agents a where a.status = 'LOST'
      and a.lost_at <= now() - ${target.agentLostForMs}::int * interval '1 millisecond')`);
  }
  if (target.agentForgotten) {
    conditions.push(sql`not exists (select 1 from agents a where a.id = k.agent_id and a.status <> 'TERMINATED')`);
  }
  return conditions;
}

/** Where a kernel goes with its session. One that has no agent yet has nothing to end: it is closed at once. */
function kernelsGoingTo(to: SessionStatus): SQL {
  switch (to) {
    case 'PENDING':
      return text('PENDING');
    case 'DEPRIORITIZING':
    case 'PREEMPTED':
    case 'RUNNING_DEGRADED':
      return sql`k.status`;
    case 'TERMINATING':
    case 'RESTARTING':
    case 'RESCHEDULING':
      return sql`case when k.status in (${terminal}) then k.status
        when k.status in ('PENDING', 'RESERVED') then 'CANCELLED' else 'TERMINATING' end`;
    default:
      return sql`case when k.status in (${terminal}) then k.status else ${text(to)} end`;
  }
}

const promotedBy = new Map<SessionStatus | undefined, SQL>();

/** `promotions` for a session `t` with its kernels `f`, as the number of the rule that fits. */
function promoted(present: SessionStatus | undefined): SQL {
  let rules = promotedBy.get(present);
  if (!rules) {
    rules = constantSql(promotionRules(present));
    promotedBy.set(present, rules);
  }
  return rules;
}

function promotionRules(present: SessionStatus | undefined): SQL {
  const cases = promotions.flatMap((rule, nth) => {
    if (present !== undefined && !rule.from.includes(present)) return [];
    const conditions: SQL[] = [];
    if (present === undefined) conditions.push(sql`t.present in (${texts(rule.from)})`);
    if (rule.tolerant) conditions.push(sql`t.failure_policy = 'tolerant'`);
    if (rule.every) conditions.push(sql`bool_and(f.first_status in (${texts(rule.every)}))`);
    if (rule.some) conditions.push(sql`bool_or(f.first_status in (${texts(rule.some)}))`);
    if (rule.main) conditions.push(sql`bool_or(f.cluster_role = 'main' and f.first_status in (${texts(rule.main)}))`);
    return [sql`when ${sql.join(conditions, sql` and `)} then ${sql.raw(String(nth))}`];
  });
  return cases.length === 0 ? sql`null::int` : sql`case ${sql.join(cases, sql` `)} end`;
}

/** Where sessions `t` belong whose kernels are `f`, grouped by session. */
export const promotedFrom = sql`coalesce((array[${sql.raw(promotions.map(({ to }) => `'${to}'`).join(', '))}])[${promoted(undefined)} + 1], t.present)`;

const ruleRows = sql.raw(
  promotions
    .map(({ to, reason }, nth) => `(${nth}, '${to}', ${reason === undefined ? 'null' : `'${reason}'`})`)
    .join(', '),
);

/** Attempts whose logs are kept, beside the present one. */
const keptLogs = 5;

/** A kernel that goes back to the queue begins anew; what the attempt that it leaves wrote and used is put aside. */
const earlierAttempts = constantSql(sql`, left_behind as (
      insert into kernel_attempts (kernel_id, session_id, cluster_role, cluster_index, attempt, agent_id, reason, exit_code,
        log, statistics, started_at, ended_at)
      select k.id, k.session_id, k.cluster_role, k.cluster_index, 1 + coalesce((select max(a.attempt) from kernel_attempts a
          where (a.session_id, a.cluster_role, a.cluster_index) = (k.session_id, k.cluster_role, k.cluster_index)), 0),
        k.agent_id, k.status_reason, k.exit_code, k.status_data->>'log', k.status_data->'statistics', k.started_at,
        coalesce(k.terminated_at, now())
      from moved m join kernels k on k.id = m.id
      where k.agent_id is not null and (k.started_at is not null or k.status_data->>'log' is not null)
      returning session_id, cluster_role, cluster_index, attempt
    ), outdated as (
      update kernel_attempts a set log = null from left_behind l
      where (a.session_id, a.cluster_role, a.cluster_index) = (l.session_id, l.cluster_role, l.cluster_index)
        and a.log is not null and a.attempt <= l.attempt - ${sql.raw(String(keptLogs))}
    )`);

/**
 * An entry of the ledger is closed once: `free_at is null` is the guard, and the balance follows what it closed. What was
 * held, and for how long, is recorded by the same statement, so that usage is exact whatever happens in between. Balances
 * are locked in the order in which placements lock them, so that the two never wait for each other.
 */
const release = sql`, freed as (
      update resource_allocations a set free_at = now() from moved m
      where a.kernel_id = m.id and a.free_at is null and m.moves and m.to_status in ('PENDING', ${sql.raw(
        terminalStatuses.map((status) => `'${status}'`).join(', '),
      )})
      returning a.kernel_id, a.agent_id, a.slot_name, a.amount, a.allocated_at, a.prereserved
    ), recorded as (
      insert into usage_records (id, session_id, session_name, kernel_id, domain_name, project_id, user_id, access_key,
        resource_group, agent_id, slots, began_at, ended_at, measured)
      select gen_random_uuid(), s.id, s.name, f.kernel_id, s.domain_name, s.project_id, s.user_id, s.access_key,
        s.resource_group, f.agent_id, jsonb_object_agg(f.slot_name, trim_scale(f.amount)::text), min(f.allocated_at),
        greatest(now(), min(f.allocated_at)),
        (select k.status_data #> '{statistics,measured}' from kernels k where k.id = f.kernel_id)
      from freed f join moved m on m.id = f.kernel_id join sessions s on s.id = m.session_id
      where not f.prereserved group by s.id, f.kernel_id, f.agent_id
    ), released as (
      update agent_resources r set used = r.used - f.used, prereserved = r.prereserved - f.held
      from (
        select b.agent_id, b.slot_name, g.used, g.held
        from agent_resources b
        join (
          select agent_id, slot_name, coalesce(sum(amount) filter (where not prereserved), 0) as used,
            coalesce(sum(amount) filter (where prereserved), 0) as held
          from freed group by agent_id, slot_name
        ) g on g.agent_id = b.agent_id and g.slot_name = b.slot_name
        order by b.agent_id, b.slot_name for update of b
      ) f
      where r.agent_id = f.agent_id and r.slot_name = f.slot_name
    )`;

const constantRelease = constantSql(release);

/** Constants of the state table, never input. */
function texts(values: readonly string[]): SQL {
  return values.length === 0 ? sql.raw('null') : sql.raw(values.map((value) => `'${value}'`).join(', '));
}

function text(value: string): SQL {
  return sql.raw(`'${value}'`);
}
