import type { EgressPolicy, ResourceGroupOptions, Scope } from '@backend.ai/contract';
import { type Database, repeatedTransaction, type SchedulerName } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { projectWithin } from './scopes.ts';
import { terminalTexts } from './session-rows.ts';

export interface ResourceGroupRecord {
  readonly name: string;
  readonly description: string;
  readonly isActive: boolean;
  readonly isPublic: boolean;
  readonly isDefault: boolean;
  readonly scheduler: SchedulerName;
  /** What was said; the contract's schema knows the rest. */
  readonly options: Record<string, unknown>;
  readonly egress: EgressPolicy;
  readonly domains: string[];
  readonly projects: Array<{ id: string; domain: string; name: string }>;
  readonly accessKeys: string[];
  readonly agents: number;
  readonly createdAt: string;
}

export type GroupSchedulingRecord = Pick<ResourceGroupRecord, 'name' | 'scheduler' | 'options' | 'egress'>;

export interface ResourceGroupValues {
  readonly description?: string | undefined;
  readonly isActive?: boolean | undefined;
  readonly isPublic?: boolean | undefined;
  readonly isDefault?: boolean | undefined;
  readonly scheduler?: SchedulerName | undefined;
  readonly options?: ResourceGroupOptions | undefined;
  readonly egress?: EgressPolicy | undefined;
}

export type AllowedTo = { readonly domain: string } | { readonly project: string } | { readonly accessKey: string };

/**
 * Whether `g`, a row of resource groups, may be used: it is active, and public or allowed to the key pair, its domain or
 * the project. `projectIds` is a query of the projects that count.
 */
export function mayUseGroup(owner: { accessKey: string; domain: string | SQL; projectIds: SQL }): SQL {
  return sql`(g.is_active and (g.is_public
    or exists (select 1 from resource_group_keypairs a where a.resource_group = g.name and a.access_key = ${owner.accessKey})
    or exists (select 1 from resource_group_domains a where a.resource_group = g.name and a.domain_name = ${owner.domain})
    or exists (select 1 from resource_group_projects a
      where a.resource_group = g.name and a.project_id in (${owner.projectIds}))))`;
}

/** Whether `g` takes sessions of the type. One that says nothing takes all. */
export function takesSessionType(type: string): SQL {
  return sql`(not g.options ? 'allowedSessionTypes' or g.options -> 'allowedSessionTypes' ? ${type}::text)`;
}

const columns = sql.raw(`
  g.name, g.description, g.is_active as "isActive", g.is_public as "isPublic", g.is_default as "isDefault",
  g.scheduler, g.options, g.egress, g.created_at as "createdAt",
  coalesce((select jsonb_agg(a.domain_name order by a.domain_name) from resource_group_domains a
    where a.resource_group = g.name), '[]') as domains,
  coalesce((select jsonb_agg(jsonb_build_object('id', p.id, 'domain', p.domain_name, 'name', p.name)
      order by p.domain_name, p.name)
    from resource_group_projects a join projects p on p.id = a.project_id where a.resource_group = g.name), '[]') as projects,
  coalesce((select jsonb_agg(a.access_key order by a.access_key) from resource_group_keypairs a
    where a.resource_group = g.name), '[]') as "accessKeys",
  (select count(*)::int from agents a where a.resource_group = g.name and a.status <> 'TERMINATED') as agents`);

export class ResourceGroupRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(): Promise<ResourceGroupRecord[]> {
    const rows = await this.#db.execute<ResourceGroupRecord & Record<string, unknown>>(
      sql`select ${columns} from resource_groups g order by g.name`,
    );
    return [...rows];
  }

  /** What the scheduler goes by. */
  async schedulingOptions(): Promise<GroupSchedulingRecord[]> {
    const rows = await this.#db.execute<GroupSchedulingRecord & Record<string, unknown>>(
      sql`select g.name, g.scheduler, g.options, g.egress from resource_groups g order by g.name`,
    );
    return [...rows];
  }

  async find(name: string): Promise<ResourceGroupRecord | undefined> {
    const [row] = await this.#db.execute<ResourceGroupRecord & Record<string, unknown>>(
      sql`select ${columns} from resource_groups g where g.name = ${name}`,
    );
    return row;
  }

  /** Those that the key pair may use in one of the projects; the default one first. */
  async usable(
    owner: { accessKey: string; domain: string },
    projectIds: readonly string[],
  ): Promise<ResourceGroupRecord[]> {
    const ids = sql`select value::uuid from jsonb_array_elements_text(${JSON.stringify(projectIds)}::jsonb)`;
    const rows = await this.#db.execute<ResourceGroupRecord & Record<string, unknown>>(sql`
      select ${columns} from resource_groups g where ${mayUseGroup({ ...owner, projectIds: ids })}
      order by g.is_default desc, g.name`);
    return [...rows];
  }

  /** Active projects that the scope may use, of the own domain unless it is all; `ref` narrows them to one name or id. */
  async projects(scope: Scope, ref: string | undefined): Promise<Array<{ id: string; name: string; domain: string }>> {
    const named = ref ?? null;
    const rows = await this.#db.execute<{ id: string; name: string; domain: string }>(sql`
      select p.id, p.name, p.domain_name as domain from projects p
      where p.is_active and ${projectWithin(scope)} and (${named}::text is null or p.id::text = ${named}::text
        or (p.name = ${named}::text and p.domain_name = ${scope.domain}))
      order by p.domain_name, p.name`);
    return [...rows];
  }

  /** False: there is one of the name. */
  async create(name: string, values: ResourceGroupValues): Promise<boolean> {
    return await repeatedTransaction(this.#db, async (tx) => {
      const made = await tx.execute(
        sql`insert into resource_groups (name) values (${name}) on conflict (name) do nothing returning name`,
      );
      if (made.length === 0) return false;
      await modify(tx, name, values);
      return true;
    });
  }

  /** False: there is none. */
  async modify(name: string, values: ResourceGroupValues): Promise<boolean> {
    return await repeatedTransaction(this.#db, (tx) => modify(tx, name, values));
  }

  /** `used`: agents belong to it, or sessions that have not ended do. */
  async delete(name: string): Promise<'deleted' | 'absent' | 'used'> {
    const [row] = await this.#db.execute<{ found: boolean; deleted: boolean }>(sql`
      with found as (select name from resource_groups where name = ${name} for update),
      deleted as (
        delete from resource_groups g using found f where g.name = f.name
          and not exists (select 1 from agents a where a.resource_group = g.name)
          and not exists (
            select 1 from sessions s where s.resource_group = g.name and s.status not in (${terminalTexts}))
        returning g.name
      )
      select exists (select 1 from found) as found, exists (select 1 from deleted) as deleted`);
    return row?.deleted ? 'deleted' : row?.found ? 'used' : 'absent';
  }

  /** Idempotent. @throws the database's `foreignKeyViolation` for a group, domain, project or key pair that is not there */
  async allow(name: string, to: AllowedTo): Promise<void> {
    const { table, column, value } = listOf(to);
    await this.#db.execute(
      sql`insert into ${table} (resource_group, ${column}) values (${name}, ${value}) on conflict do nothing`,
    );
  }

  /** Idempotent. */
  async disallow(name: string, to: AllowedTo): Promise<void> {
    const { table, column, value } = listOf(to);
    await this.#db.execute(sql`delete from ${table} where resource_group = ${name} and ${column} = ${value}`);
  }
}

async function modify(tx: Pick<Database, 'execute'>, name: string, values: ResourceGroupValues): Promise<boolean> {
  const { description, isActive, isPublic, isDefault, scheduler, options, egress } = values;
  // Only one may be the default: the one before gives way first.
  if (isDefault)
    await tx.execute(sql`update resource_groups set is_default = false where is_default and name <> ${name}`);
  const rows = await tx.execute(sql`
    update resource_groups set description = coalesce(${description ?? null}::text, description),
      is_active = coalesce(${isActive ?? null}::boolean, is_active),
      is_public = coalesce(${isPublic ?? null}::boolean, is_public),
      is_default = coalesce(${isDefault ?? null}::boolean, is_default),
      scheduler = coalesce(${scheduler ?? null}::text, scheduler),
      options = coalesce(${options ? JSON.stringify(options) : null}::jsonb, options),
      egress = coalesce(${egress ? JSON.stringify(egress) : null}::jsonb, egress)
    where name = ${name} returning name`);
  return rows.length > 0;
}

function listOf(to: AllowedTo): { table: SQL; column: SQL; value: SQL } {
  if ('domain' in to) {
    return { table: sql`resource_group_domains`, column: sql`domain_name`, value: sql`${to.domain}::text` };
  }
  if ('project' in to) {
    return { table: sql`resource_group_projects`, column: sql`project_id`, value: sql`${to.project}::uuid` };
  }
  return { table: sql`resource_group_keypairs`, column: sql`access_key`, value: sql`${to.accessKey}::text` };
}
