import type { EgressPolicy, WarmSlotReport } from '@backend.ai/contract';
import type { ErrorBody } from '@backend.ai/core';
import { type Database, fencedBy } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import { slotIsCurrent } from './placement-sql.ts';
import type { StoredCredentials } from './session-transitions.ts';

export interface WarmPoolRecord {
  readonly id: string;
  readonly name: string;
  readonly resourceGroup: string;
  readonly image: string;
  readonly architecture: string;
  readonly slots: Record<string, string>;
  /** In bytes; null: the image has no say. */
  readonly shmem: number | null;
  readonly size: number;
  /** Kernels of its group may not call everything. */
  readonly restrictsEgress: boolean;
  /** The latest failure first; those long past do not count. */
  readonly failing: readonly FailingAgent[];
}

/** An agent on which slots of a pool failed one after the other. */
export interface FailingAgent {
  readonly agentId: string;
  readonly failures: number;
  /** Before that none is started there, in milliseconds since the epoch. */
  readonly retryAt: number;
  readonly error: ErrorBody | null;
}

export type NewWarmPool = Omit<WarmPoolRecord, 'restrictsEgress' | 'failing'>;

/** A warm slot, with what its agent has to know of it. */
export interface WarmSlotRecord {
  readonly id: string;
  readonly poolId: string;
  readonly agentId: string;
  readonly image: string;
  readonly architecture: string;
  readonly slots: Record<string, string>;
  readonly shmem: number | null;
  readonly status: 'starting' | 'ready';
  readonly imageDigest: string | null;
  readonly imageManifestDigest: string | null;
  readonly imageRegistry: StoredCredentials | null;
  /** What its resource group said when it was made. */
  readonly egress: EgressPolicy;
  readonly mayScatter: boolean;
  /** Whether the group says the same now: else no session may have it. */
  readonly isCurrent: boolean;
}

export interface NewWarmSlot {
  readonly id: string;
  readonly poolId: string;
  readonly agentId: string;
  /** Who has its image; null: agents only. */
  readonly origin: { readonly registryId: string; readonly digest: string; readonly manifestDigest: string } | null;
}

/** Failures of `f` say something of its agent until a while after it may be tried again: later it is one like the others. */
const isRecent = `f.retry_at > now() - interval '15 minutes'`;
const inARow = sql.raw(`case when ${isRecent} then f.failures else 0 end`);

const columns = sql.raw(`p.id, p.name, p.resource_group as "resourceGroup", p.image, p.architecture, p.slots,
  p.shmem::float8 as shmem, p.size, g.egress->>'policy' <> 'open' as "restrictsEgress",
  coalesce((select jsonb_agg(jsonb_build_object('agentId', f.agent_id, 'failures', f.failures,
      'retryAt', floor(extract(epoch from f.retry_at) * 1000), 'error', f.error) order by f.failed_at desc, f.agent_id)
    from warm_pool_failures f where f.pool_id = p.id and ${isRecent}), '[]') as failing`);

/** Warm pools as they are wished, and their slots as they are. Slots become kernels in `placement-sql.ts`. */
export class WarmPoolRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(): Promise<WarmPoolRecord[]> {
    const rows = await this.#db.execute<WarmPoolRecord & Record<string, unknown>>(
      sql`select ${columns} from warm_pools p join resource_groups g on g.name = p.resource_group order by p.name`,
    );
    return [...rows];
  }

  /** @throws the database's `uniqueViolation`, or `foreignKeyViolation` for a group that is not there */
  async create(pool: NewWarmPool): Promise<void> {
    await this.#db.execute(sql`
      insert into warm_pools (id, name, resource_group, image, architecture, slots, shmem, size)
      values (${pool.id}::uuid, ${pool.name}, ${pool.resourceGroup}, ${pool.image}, ${pool.architecture},
        ${JSON.stringify(pool.slots)}::jsonb, ${pool.shmem}::bigint, ${pool.size})`);
  }

  /** What failed before is forgotten: whoever changes it wants it to be tried. False: there is none. */
  async resize(name: string, size: number): Promise<boolean> {
    const rows = await this.#db.execute(sql`
      with resized as (update warm_pools set size = ${size} where name = ${name} returning id),
        forgiven as (delete from warm_pool_failures f using resized r where f.pool_id = r.id)
      select id from resized`);
    return rows.length > 0;
  }

  async delete(name: string): Promise<boolean> {
    return (await this.#db.execute(sql`delete from warm_pools where name = ${name} returning id`)).length > 0;
  }

  async slots(): Promise<WarmSlotRecord[]> {
    const rows = await this.#db.execute<WarmSlotRecord & Record<string, unknown>>(sql`
      select w.id, w.pool_id as "poolId", w.agent_id as "agentId", p.image, p.architecture, w.slots,
        p.shmem::float8 as shmem, w.status, w.image_digest as "imageDigest",
        w.image_manifest_digest as "imageManifestDigest",
        (select jsonb_build_object('id', r.id, 'username', r.username, 'passwordEncrypted', r.password_encrypted)
          from container_registries r where r.id = w.image_registry_id) as "imageRegistry",
        w.egress, w.may_scatter as "mayScatter", ${slotIsCurrent} as "isCurrent"
      from warm_slots w join warm_pools p on p.id = w.pool_id join resource_groups q on q.name = p.resource_group
      order by w.id`);
    return [...rows];
  }

  /**
   * Ids of the kernels whose agents are being told to start them, by agent: among them are slots that were claimed. Read
   * after `slots`, it has every one that was claimed before those were read.
   */
  async claimed(): Promise<Map<string, string[]>> {
    const rows = await this.#db.execute<{ agentId: string; ids: string[] }>(sql`
      select k.agent_id as "agentId", jsonb_agg(k.id) as ids from kernels k
      where k.status = 'PREPARING' and k.agent_id is not null group by k.agent_id`);
    return new Map([...rows].map(({ agentId, ids }) => [agentId, ids]));
  }

  /**
   * Takes room for slots, for each that finds some beside all that its agent holds. Answers how many did. Balances are
   * written as they are: a placement that waited for one meanwhile is repeated, and sees the slots that have to go for it.
   */
  async reserve(slots: readonly NewWarmSlot[], epoch: number): Promise<number> {
    if (slots.length === 0) return 0;
    const items = slots.map(({ origin, ...slot }, nth) => ({ nth, ...slot, ...origin }));
    const rows = await this.#db.execute(sql`
      with wish as (
        select w.*, p.slots, p.resource_group from jsonb_to_recordset(${JSON.stringify(items)}::jsonb) as w (nth int, id uuid,
          "poolId" uuid, "agentId" text, "registryId" uuid, digest text, "manifestDigest" text)
        join warm_pools p on p.id = w."poolId"
        join agents a on a.id = w."agentId" and a.status = 'ALIVE' and a.schedulable and a.resource_group = p.resource_group
        where ${fencedBy(epoch)}
      ), wanted as (
        select w.nth, w.id, w."agentId" as agent_id, s.key as slot_name, s.value::numeric as amount
        from wish w cross join lateral jsonb_each_text(w.slots) s where s.value::numeric > 0
      ), held as (
        select v.agent_id, s.key as slot_name, sum(s.value::numeric) as amount
        from warm_slots v cross join lateral jsonb_each_text(v.slots) s group by v.agent_id, s.key
      ), room as materialized (
        select r.agent_id, r.slot_name, r.capacity - r.used - r.prereserved as free from agent_resources r
        where r.agent_id in (select w.agent_id from wanted w)
        order by r.agent_id, r.slot_name for update of r
      ), fitting as (
        select w.id, coalesce(r.free - coalesce(h.amount, 0) >= sum(w.amount)
          over (partition by w.agent_id, w.slot_name order by w.nth), false) as fits
        from wanted w left join room r on (r.agent_id, r.slot_name) = (w.agent_id, w.slot_name)
        left join held h on (h.agent_id, h.slot_name) = (w.agent_id, w.slot_name)
      ), made as (
        insert into warm_slots (id, pool_id, agent_id, slots, image_registry_id, image_digest, image_manifest_digest,
          egress, may_scatter)
        select w.id, w."poolId", w."agentId", w.slots, w."registryId", w.digest, w."manifestDigest", g.egress,
          coalesce((g.options->>'allowFractionalResourceFragmentation')::boolean, true)
        from wish w join resource_groups g on g.name = w.resource_group
        where not exists (select 1 from fitting f where f.id = w.id and not f.fits)
        returning id, agent_id, slots
      ), noticed as (
        update agent_resources r set used = r.used
        from (select distinct m.agent_id, s.key as slot_name
          from made m cross join lateral jsonb_each_text(m.slots) s where s.value::numeric > 0) x
        where (r.agent_id, r.slot_name) = (x.agent_id, x.slot_name)
      )
      select id from made`);
    return rows.length;
  }

  async remove(ids: readonly string[], epoch: number): Promise<void> {
    if (ids.length === 0) return;
    await this.#db.execute(sql`
      delete from warm_slots w where w.id in (select i.value::uuid
        from jsonb_array_elements_text(${JSON.stringify(ids)}::jsonb) i) and ${fencedBy(epoch)}`);
  }

  /**
   * What an agent tells of all its slots. One that failed is gone, as is one that could be taken and is not there any more;
   * its pool starts none there for a while, longer with each failure in a row. Answers how many slots have changed.
   * @param backoff Of the wait, in milliseconds.
   */
  async tell(
    agentId: string,
    reports: readonly WarmSlotReport[],
    backoff: { readonly initialMs: number; readonly maxMs: number },
  ): Promise<{ readonly changed: number; readonly failed: number }> {
    const items = reports.map(({ slotId, state, error = null }) => ({ id: slotId, state, error }));
    const [row] = await this.#db.execute<{ changed: number; failed: number }>(sql`
      with report as (
        select * from jsonb_to_recordset(${JSON.stringify(items)}::jsonb) as r (id uuid, state text, error jsonb)
      ), moved as (
        update warm_slots w set status = r.state, ready_at = case when r.state = 'ready' then now() end
        from report r where w.id = r.id and w.agent_id = ${agentId} and r.state <> 'failed' and w.status <> r.state
        returning w.pool_id, w.status
      ), gone as (
        delete from warm_slots w
        where w.agent_id = ${agentId} and (w.id in (select r.id from report r where r.state = 'failed')
          or (w.status = 'ready' and w.id not in (select r.id from report r)))
        returning w.id, w.pool_id
      ), failure as (
        select g.pool_id, (array_agg(r.error))[1] as error from gone g join report r on r.id = g.id group by g.pool_id
      ), waiting as (
        insert into warm_pool_failures as f (pool_id, agent_id, failures, retry_at, error)
        select x.pool_id, ${agentId}, 1, now() + ${backoff.initialMs}::float8 * interval '1 millisecond', x.error
        from failure x
        on conflict (pool_id, agent_id) do update set failures = ${inARow} + 1, error = excluded.error,
          failed_at = now(), retry_at = now() + least(${backoff.maxMs}::float8,
            ${backoff.initialMs}::float8 * power(2, least(${inARow}, 30))) * interval '1 millisecond'
      ), going as (
        delete from warm_pool_failures w
        where w.agent_id = ${agentId} and w.pool_id in (select m.pool_id from moved m where m.status = 'ready')
          and w.pool_id not in (select f.pool_id from failure f)
      )
      select (select count(*)::int from moved) + (select count(*)::int from gone) as changed,
        (select count(*)::int from gone) as failed`);
    return row!;
  }
}
