import type { AgentRegistration, AgentStatus, Image, IsolationReport, SwarmNode } from '@backend.ai/contract';
import { AppError, type KernelStatus } from '@backend.ai/core';
import { type Database, fencedBy, sqlStateOf, sqlStates } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import { Gathered } from './gathered.ts';
import { terminalTexts } from './session-rows.ts';

export interface AgentRecord {
  readonly id: string;
  /** Of this life of it; null: it has never registered. */
  readonly bootId: string | null;
  readonly resourceGroup: string;
  readonly status: AgentStatus;
  readonly address: string | null;
  readonly dataAddress: string | null;
  readonly rpcVersion: number;
  readonly version: string;
  readonly architecture: string;
  readonly backend: string;
  readonly isolation: IsolationReport;
  readonly images: Image[];
  readonly schedulable: boolean;
  readonly firstContact: string;
  readonly lastHeartbeat: string;
  readonly capacity: Record<string, string>;
  readonly used: Record<string, string>;
  /** Announced for sessions that wait until others have left. */
  readonly reserved: Record<string, string>;
  /** Held by warm slots, beside what is in use. */
  readonly warm: Record<string, string>;
  readonly features: string[];
  /** Null: it has no engine, or that is in no swarm. */
  readonly swarm: SwarmNode | null;
}

/** A kernel that the database believes to be with an agent. */
export interface BelievedKernel {
  readonly kernelId: string;
  readonly sessionId: string;
  readonly status: KernelStatus;
  /** Its programs are to stand still. */
  readonly paused: boolean;
}

export interface HeartbeatRecord {
  /** Its status before this heartbeat; undefined when it never registered. */
  readonly before: AgentStatus | undefined;
  readonly ackedSeq: number;
  readonly kernels: BelievedKernel[];
}

interface Heartbeat {
  readonly agentId: string;
  /** Ids of its kernels. */
  readonly seen: readonly string[];
}

/** Agents of one statement at most. */
const most = 256;

export class AgentRepository {
  readonly #db: Database;
  readonly #heartbeats = new Gathered({ work: (items: readonly Heartbeat[]) => this.#beat(items), most });
  readonly #acknowledgements = new Gathered({
    work: (items: ReadonlyArray<{ readonly agentId: string; readonly seq: number }>) => this.#acknowledge(items),
    most,
  });

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Records what an agent offers. What it no longer offers keeps its row with no capacity, because allocations may
   * still be open. One that was known stays in its group: an administrator may have moved it. @throws AppError
   * `invalid-input` for an unknown resource group
   */
  async register(
    agent: AgentRegistration,
    resourceGroup: string,
  ): Promise<{ ackedSeq: number; resourceGroup: string }> {
    const slots = JSON.stringify(agent.slots);
    try {
      const [row] = await this.#db.execute<{ seq: string; resourceGroup: string }>(sql`
        with agent as (
          insert into agents (id, resource_group, status, address, data_address, rpc_version, version, architecture,
            backend, isolation, images, boot_id, features, swarm)
          values (${agent.agentId}, ${resourceGroup}, 'ALIVE', ${agent.address}, ${agent.dataAddress},
            ${agent.rpcVersion}, ${agent.version}, ${agent.architecture}, ${agent.backend},
            ${JSON.stringify(agent.isolation)}::jsonb, ${JSON.stringify(agent.images)}::jsonb, ${agent.bootId},
            ${JSON.stringify(agent.features ?? [])}::jsonb,
            ${agent.swarm ? JSON.stringify(agent.swarm) : null}::jsonb)
          on conflict (id) do update set status = 'ALIVE',
            address = excluded.address, data_address = excluded.data_address, rpc_version = excluded.rpc_version,
            version = excluded.version, architecture = excluded.architecture, backend = excluded.backend,
            isolation = excluded.isolation, images = excluded.images, boot_id = excluded.boot_id, features = excluded.features,
            swarm = excluded.swarm,
            last_heartbeat = now(), lost_at = null
          returning id, last_event_seq, resource_group
        ), offered as (
          insert into agent_resources (agent_id, slot_name, capacity)
          select a.id, o.key, o.value::numeric from agent a cross join lateral jsonb_each_text(${slots}::jsonb) o
          on conflict (agent_id, slot_name) do update set capacity = excluded.capacity
        ), withdrawn as (
          update agent_resources r set capacity = 0 from agent a
          where r.agent_id = a.id and not (${slots}::jsonb) ? r.slot_name
        )
        select last_event_seq as seq, resource_group as "resourceGroup" from agent`);
      return { ackedSeq: Number(row?.seq ?? 0), resourceGroup: row?.resourceGroup ?? resourceGroup };
    } catch (error) {
      if (sqlStateOf(error) === sqlStates.foreignKeyViolation) {
        throw new AppError('invalid-input', `The resource group "${resourceGroup}" does not exist.`, { cause: error });
      }
      throw error;
    }
  }

  /** Sign of life, and what the database believes to be there. */
  async heartbeat(agentId: string, seen: readonly string[]): Promise<HeartbeatRecord> {
    return (await this.#heartbeats.add({ agentId, seen })) ?? { before: undefined, ackedSeq: 0, kernels: [] };
  }

  async #beat(beats: readonly Heartbeat[]): Promise<HeartbeatRecord[]> {
    const items = beats.map(({ agentId, seen }) => ({ agent_id: agentId, seen }));
    const rows = await this.#db.execute<{
      agentId: string;
      before: AgentStatus;
      seq: string;
      kernels: BelievedKernel[];
    }>(sql`
      with beat as (
        select * from jsonb_to_recordset(${JSON.stringify(items)}::jsonb) as b (agent_id text, seen jsonb)
      ), before as (
        select a.id, a.status, a.last_event_seq from agents a
        where a.id in (select b.agent_id from beat b) order by a.id for update
      ), alive as (
        update agents a set last_heartbeat = now(), lost_at = null,
          status = case when b.status = 'LOST' then 'ALIVE' else b.status end
        from before b where a.id = b.id
      ), present as (
        update kernels k set last_seen_at = now()
        from beat b cross join lateral jsonb_array_elements_text(b.seen) s
        where k.id = s.value::uuid and k.agent_id = b.agent_id and k.status not in (${terminalTexts})
      )
      select b.id as "agentId", b.status as before, b.last_event_seq as seq, coalesce((
        select jsonb_agg(jsonb_build_object('kernelId', k.id, 'sessionId', k.session_id, 'status', k.status,
          'paused', s.paused_at is not null))
        from kernels k join sessions s on s.id = k.session_id where k.agent_id = b.id and k.status not in (${terminalTexts})), '[]') as kernels
      from before b`);
    const known = new Map(rows.map((row) => [row.agentId, row]));
    return beats.map(({ agentId }) => {
      const { before, seq = 0, kernels = [] } = known.get(agentId) ?? {};
      return { before, ackedSeq: Number(seq), kernels };
    });
  }

  async keepImages(agentId: string, images: readonly Image[]): Promise<void> {
    await this.#db.execute(sql`update agents set images = ${JSON.stringify(images)}::jsonb where id = ${agentId}`);
  }

  /** Counts events as seen whose numbers were not stored with what they changed. */
  async acknowledge(agentId: string, seq: number): Promise<void> {
    await this.#acknowledgements.add({ agentId, seq });
  }

  async #acknowledge(items: ReadonlyArray<{ readonly agentId: string; readonly seq: number }>): Promise<true[]> {
    await this.#db.execute(sql`
      update agents a set last_event_seq = c.seq
      from jsonb_to_recordset(${JSON.stringify(items)}::jsonb) as c ("agentId" text, seq bigint)
      where a.id = c."agentId" and a.last_event_seq < c.seq`);
    return items.map(() => true);
  }

  async ackedSeq(agentId: string): Promise<number | undefined> {
    const [row] = await this.#db.execute<{ seq: string }>(
      sql`select last_event_seq as seq from agents where id = ${agentId}`,
    );
    return row && Number(row.seq);
  }

  async list(): Promise<AgentRecord[]> {
    const rows = await this.#db.execute<AgentRecord & Record<string, unknown>>(sql`
      select a.id, a.boot_id as "bootId", a.resource_group as "resourceGroup", a.status, a.address, a.data_address as "dataAddress",
        a.rpc_version as "rpcVersion", a.version, a.architecture, a.backend, a.isolation, a.images, a.schedulable, a.features, a.swarm,
        a.first_contact as "firstContact", a.last_heartbeat as "lastHeartbeat",
        coalesce(jsonb_object_agg(r.slot_name, r.capacity::text) filter (where r.slot_name is not null), '{}') as capacity,
        coalesce(jsonb_object_agg(r.slot_name, r.used::text) filter (where r.slot_name is not null), '{}') as used,
        coalesce(jsonb_object_agg(r.slot_name, r.prereserved::text) filter (where r.prereserved > 0), '{}') as reserved,
        (select coalesce(jsonb_object_agg(h.slot_name, h.amount::text), '{}') from (
          select s.key as slot_name, sum(s.value::numeric) as amount
          from warm_slots w cross join lateral jsonb_each_text(w.slots) s where w.agent_id = a.id group by s.key
        ) h) as warm
      from agents a left join agent_resources r on r.agent_id = a.id
      where a.status <> 'TERMINATED' group by a.id order by a.id`);
    return [...rows];
  }

  /** ALIVE → LOST for those that were not heard of for longer. Unreachable is not dead: their kernels are left alone. */
  async markLost(silentForMs: number, epoch: number): Promise<string[]> {
    const rows = await this.#db.execute<{ id: string }>(sql`
      update agents set status = 'LOST', lost_at = now()
      where status = 'ALIVE' and last_heartbeat < now() - ${silentForMs}::int * interval '1 millisecond'
        and ${fencedBy(epoch)}
      returning id`);
    return rows.map((row) => row.id);
  }
}
