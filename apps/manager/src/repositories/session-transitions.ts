import type { AgentId, KernelId, SessionId, SessionStatus, StatusReason } from '@backend.ai/core';
import { occupyingStatuses, sourcesOf, terminalStatuses } from '@backend.ai/core';
import { type Database, fencedBy } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { storableJson } from './json-text.ts';

/**
 * Every change of state goes through this file: one statement that locks a session with its kernel, checks where they
 * are, moves both, writes history, and settles the ledger when the new state holds nothing. A statement is atomic, so
 * there is no half of it after a crash; zero rows mean that somebody else was there first.
 *
 * All times are the database's. One session has one kernel here, and both are always in the same state. Its id is that of
 * one attempt to start it: going back to PENDING gives a new one, so that whatever an agent still does or says about the
 * attempt that was given up concerns a kernel that nobody knows.
 */

/** Which sessions a change is for. Conditions are added up. */
export interface TransitionTarget {
  readonly sessionId?: string;
  readonly kernelId?: string;
  /** Its kernel must be with this agent. */
  readonly agentId?: string;
  /** Only those whose present state began longer ago. */
  readonly olderThanMs?: number;
  /** Only those whose agent has been lost for longer. */
  readonly agentLostForMs?: number;
  /** Only those whose agent is not among the known ones. */
  readonly agentForgotten?: boolean;
}

export interface TransitionOptions {
  readonly target: TransitionTarget;
  readonly to: SessionStatus;
  /** Narrows the states that may be left; all that the table allows when absent. */
  readonly from?: readonly SessionStatus[];
  readonly reason: StatusReason;
  /** Keeps the reason of TERMINATING: it says why the session ends, the new one only that it did. */
  readonly keepReasonOfEnding?: boolean;
  readonly data?: Record<string, unknown>;
  /** Merged into what is known of the kernel. */
  readonly kernelData?: Record<string, unknown>;
  readonly exitCode?: number | null;
  /** For history; the session's own when absent. */
  readonly requestId?: string;
  /** Given by leaders: with a newer leader elected nothing changes. */
  readonly epoch?: number;
  /** Given with an agent's event: one that was counted before changes nothing. */
  readonly event?: EventGuard;
}

export interface EventGuard {
  readonly agentId: string;
  readonly seq: number;
  /** Count it in this very statement, if it changes something; false for the steps before the last one. */
  readonly count: boolean;
}

export interface ChangedSession {
  readonly sessionId: SessionId;
  /** As it was before: one that went back to PENDING has a new one. */
  readonly kernelId: KernelId;
  readonly agentId: AgentId | null;
  readonly name: string;
  readonly accessKey: string;
  readonly from: SessionStatus;
  readonly to: SessionStatus;
  readonly reason: string;
  /** Of the request that made the session. */
  readonly requestId: string;
}

/** What an agent needs to start a kernel. */
export interface StartableKernel extends ChangedSession {
  readonly image: string;
  readonly clusterRole: 'main' | 'sub';
  readonly clusterIndex: number;
  readonly hostname: string;
  readonly slots: Record<string, string>;
  readonly environ: Record<string, string>;
  readonly options: Record<string, unknown>;
}

export interface PlacementWrite {
  readonly sessionId: string;
  readonly kernelId: string;
  readonly agentId: string;
  readonly epoch: number;
}

/** Nothing is held in these: entering one releases. */
const releasing: ReadonlySet<SessionStatus> = new Set([...terminalStatuses, 'PENDING']);

export class SessionTransitions {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Moves what is in the right state; tells what moved. */
  async apply(options: TransitionOptions): Promise<ChangedSession[]> {
    const rows = await this.#db.execute<ChangedSession & Record<string, unknown>>(
      sql`${changes(options)} select ${changedColumns} from target t join changed c on c.id = t.id`,
    );
    return [...rows];
  }

  /**
   * PENDING → SCHEDULED → PREPARING with its resources taken from one agent: all of them or none. The caller orders it at
   * once; should it die before that, whoever leads next finds it PREPARING and asks the agent. `false`: it is not pending
   * any more, or the agent has not enough, or somebody else leads.
   */
  async place({ kernelId, sessionId, agentId, epoch }: PlacementWrite): Promise<StartableKernel | false> {
    const rows = await this.#db.execute<StartableKernel & Record<string, unknown>>(sql`
      with target as (
        select s.id, s.status as from_status, s.request_id, s.requested_slots, k.id as kernel_id
        from kernels k join sessions s on s.id = k.session_id
        where k.id = ${kernelId} and s.id = ${sessionId} and s.status = 'PENDING' and k.status = 'PENDING'
          and ${fencedBy(epoch)}
          and exists (select 1 from agents a where a.id = ${agentId} and a.status = 'ALIVE')
        for update of s, k
      ), wanted as (
        select w.key as slot_name, w.value::numeric as amount
        from target t cross join lateral jsonb_each_text(t.requested_slots) w
        where w.value::numeric > 0
      ), room as materialized (
        select r.slot_name, w.amount, r.used + w.amount <= r.capacity as fits
        from agent_resources r join wanted w on w.slot_name = r.slot_name
        where r.agent_id = ${agentId} order by r.slot_name for update of r
      ), enough as materialized (
        select (select count(*) from room where fits) = (select count(*) from wanted) as ok
      ), acquired as (
        update agent_resources r set used = r.used + room.amount from room
        where r.agent_id = ${agentId} and r.slot_name = room.slot_name and (select ok from enough)
      ), allocated as (
        insert into resource_allocations (kernel_id, slot_name, agent_id, amount, request_id)
        select t.kernel_id, room.slot_name, ${agentId}, room.amount, t.request_id from target t cross join room
        where (select ok from enough)
        on conflict (kernel_id, slot_name) do update
          set agent_id = excluded.agent_id, amount = excluded.amount, allocated_at = now(), free_at = null
      ), changed as (
        update sessions s set status = 'PREPARING', status_reason = 'progress', status_data = '{}',
          status_changed_at = now(), scheduled_at = now(), version = s.version + 1
        from target t where s.id = t.id and (select ok from enough)
        returning s.id, s.name, s.access_key, s.status, s.status_reason
      ), kernel as (
        update kernels k set status = 'PREPARING', status_reason = 'progress', status_data = '{}',
          agent_id = ${agentId}, status_changed_at = now(), version = k.version + 1
        from target t where k.id = t.kernel_id and (select ok from enough)
      ), history as (
        insert into session_history (id, session_id, from_status, to_status, reason, data, request_id, at)
        select gen_random_uuid(), t.id, step.from_status, step.to_status, 'progress', step.data, t.request_id,
          now() + step.nth * interval '1 microsecond'
        from target t cross join (values
          (0, 'PENDING', 'SCHEDULED', jsonb_build_object('agent', ${agentId}::text)),
          (1, 'SCHEDULED', 'PREPARING', '{}'::jsonb)) as step (nth, from_status, to_status, data)
        where (select ok from enough)
      )
      select c.id as "sessionId", t.kernel_id as "kernelId", ${agentId}::text as "agentId", c.name,
        c.access_key as "accessKey", t.from_status as "from", c.status as "to", c.status_reason as "reason",
        t.request_id as "requestId", ${startColumns}
      from target t join changed c on c.id = t.id join sessions s on s.id = t.id join kernels k on k.id = t.kernel_id`);
    return rows[0] ?? false;
  }
}

const changedColumns = sql.raw(`
  t.id as "sessionId", t.kernel_id as "kernelId", t.agent_id as "agentId", c.name, c.access_key as "accessKey",
  t.from_status as "from", c.status as "to", c.status_reason as "reason", t.request_id as "requestId"`);

const startColumns = sql.raw(`
  k.image, k.cluster_role as "clusterRole", k.cluster_index as "clusterIndex", k.hostname,
  k.requested_slots as "slots", s.environ, s.options`);

/** The statement up to its final SELECT, which reads `target` and `changed`. */
function changes(options: TransitionOptions): SQL {
  const { to, target, event } = options;
  const allowed = sourcesOf(to);
  const from = options.from ? options.from.filter((status) => allowed.includes(status)) : allowed;
  const conditions: SQL[] = [sql`s.status in (${texts(from)})`, sql`k.status in (${texts(from)})`];
  if (target.sessionId !== undefined) conditions.push(sql`s.id = ${target.sessionId}`);
  if (target.kernelId !== undefined) conditions.push(sql`k.id = ${target.kernelId}`);
  if (target.agentId !== undefined) conditions.push(sql`k.agent_id = ${target.agentId}`);
  if (target.olderThanMs !== undefined) {
    conditions.push(sql`s.status_changed_at < now() - ${target.olderThanMs}::int * interval '1 millisecond'`);
  }
  if (target.agentLostForMs !== undefined) {
    conditions.push(sql`k.agent_id in (select a.id from agents a where a.status = 'LOST'
      and a.lost_at <= now() - ${target.agentLostForMs}::int * interval '1 millisecond')`);
  }
  if (target.agentForgotten) {
    conditions.push(sql`not exists (select 1 from agents a where a.id = k.agent_id and a.status <> 'TERMINATED')`);
  }
  if (options.epoch !== undefined) conditions.push(fencedBy(options.epoch));
  if (event) {
    conditions.push(sql`exists (select 1 from agents a
      where a.id = ${event.agentId} and a.last_event_seq < ${event.seq} for update)`);
  }

  const requestId = options.requestId === undefined ? sql`t.request_id` : sql`${options.requestId}::text`;
  const data = storableJson(options.data ?? {});
  const ending = options.keepReasonOfEnding ? sql`t.from_status = 'TERMINATING'` : sql`false`;
  const reason = sql`case when ${ending} then t.status_reason else ${options.reason}::text end`;
  const statusData = sql`case when ${ending} then t.status_data || ${data}::jsonb else ${data}::jsonb end`;
  const terminal = terminalStatuses.includes(to);
  const moments = sql.raw(
    [
      'status_changed_at = now()',
      ...(to === 'RUNNING' ? ['started_at = now()'] : []),
      ...(to === 'PENDING' ? ['started_at = null'] : []),
      ...(terminal ? ['terminated_at = now()'] : []),
    ].join(', '),
  );

  return sql`with target as (
      select s.id, s.status as from_status, s.request_id, s.status_reason, s.status_data, k.id as kernel_id, k.agent_id
      from kernels k join sessions s on s.id = k.session_id
      where ${sql.join(conditions, sql` and `)}
      for update of s, k
    ), changed as (
      update sessions s set status = ${constant(to)}, status_reason = ${reason}, status_data = ${statusData}, ${moments},
        ${to === 'PENDING' ? sql`scheduled_at = null,` : sql``} version = s.version + 1
      from target t where s.id = t.id
      returning s.id, s.name, s.access_key, s.status, s.status_reason
    ), kernel as (
      update kernels k set status = ${constant(to)}, status_reason = ${reason}, ${moments},
        ${to === 'PENDING' ? sql`id = gen_random_uuid(), agent_id = null,` : sql``}
        exit_code = coalesce(${options.exitCode ?? null}::int, k.exit_code),
        status_data = k.status_data || ${storableJson(options.kernelData ?? {})}::jsonb, version = k.version + 1
      from target t where k.id = t.kernel_id
    ), history as (
      insert into session_history (id, session_id, from_status, to_status, reason, data, request_id)
      select gen_random_uuid(), t.id, t.from_status, ${constant(to)}, ${reason}, ${data}::jsonb, ${requestId}
      from target t
    ) ${event?.count ? counted(event) : sql``} ${releasing.has(to) && from.some((status) => occupyingStatuses.includes(status)) ? release : sql``}`;
}

/** The event and what it changed are in the database together, or neither is. */
function counted(event: EventGuard): SQL {
  return sql`, counted as (
      update agents a set last_event_seq = ${event.seq}
      where a.id = ${event.agentId} and a.last_event_seq < ${event.seq} and exists (select 1 from target)
    )`;
}

/**
 * An entry of the ledger is closed once: `free_at is null` is the guard, and the balance follows what it closed. Balances
 * are locked in the order in which placements lock them, so that the two never wait for each other.
 */
const release = sql`, freed as (
      update resource_allocations a set free_at = now() from target t
      where a.kernel_id = t.kernel_id and a.free_at is null
      returning a.agent_id, a.slot_name, a.amount
    ), released as (
      update agent_resources r set used = r.used - f.amount
      from (
        select b.agent_id, b.slot_name, g.amount
        from agent_resources b
        join (select agent_id, slot_name, sum(amount) as amount from freed group by agent_id, slot_name) g
          on g.agent_id = b.agent_id and g.slot_name = b.slot_name
        order by b.agent_id, b.slot_name for update of b
      ) f
      where r.agent_id = f.agent_id and r.slot_name = f.slot_name
    )`;

/** Constants of the state table, never input. */
function texts(values: readonly string[]): SQL {
  return values.length === 0 ? sql.raw('null') : sql.raw(values.map((value) => `'${value}'`).join(', '));
}

function constant(value: string): SQL {
  return sql.raw(`'${value}'`);
}
