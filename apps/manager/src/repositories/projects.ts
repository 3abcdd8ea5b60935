import type { ProjectView, Scope } from '@backend.ai/contract';
import { isUuid } from '@backend.ai/core';
import type { Database, Transaction } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { changedColumns, typed } from './changed-columns.ts';
import type { DomainValues } from './domains.ts';
import { projectWithin } from './scopes.ts';
import { forgetTurns } from './tenant-guards.ts';

/** As the API shows it, but for moments: they are PostgreSQL's texts. */
export type ProjectRecord = ProjectView;

export interface ProjectValues extends DomainValues {
  readonly name?: string | undefined;
  readonly resourcePolicy?: string | undefined;
}

const columns = sql.raw(`p.id, p.domain_name as domain, p.name, p.description, p.is_active as "isActive",
  p.total_resource_slots as "totalResourceSlots", p.integration_id as "integrationId",
  p.resource_policy as "resourcePolicy", p.created_at as "createdAt", p.modified_at as "modifiedAt",
  (select count(*)::int from project_members m where m.project_id = p.id) as members`);

export class ProjectRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(filter: {
    scope: Scope;
    domain: string | null;
    limit: number;
    offset: number;
  }): Promise<{ records: ProjectRecord[]; total: number }> {
    const from = sql`
      from projects p where ${projectWithin(filter.scope)}
        and (${filter.domain}::text is null or p.domain_name = ${filter.domain}::text)`;
    const records = await this.#db.execute<ProjectRecord & Record<string, unknown>>(sql`
      select ${columns} ${from} order by p.domain_name, p.name
      limit ${filter.limit}::int offset ${filter.offset}::int`);
    const [count] = await this.#db.execute<{ total: number }>(sql`select count(*)::int as total ${from}`);
    return { records: [...records], total: count?.total ?? 0 };
  }

  /** By id, or by name in the domain, among those of the scope. */
  async find(
    ref: string,
    domain: string,
    scope: Scope,
    on: Database | Transaction = this.#db,
  ): Promise<ProjectRecord | undefined> {
    const [row] = await on.execute<ProjectRecord & Record<string, unknown>>(
      sql`select ${columns} from projects p where ${isNamed(ref, domain)} and ${projectWithin(scope)}`,
    );
    return row;
  }

  /** False: the name is taken in that domain. */
  async insert(tx: Transaction, id: string, domain: string, name: string, values: ProjectValues): Promise<boolean> {
    const { count } = await tx.execute(sql`
      insert into projects (id, domain_name, name, description, is_active, total_resource_slots, integration_id,
        resource_policy)
      values (${id}::uuid, ${domain}, ${name}, ${values.description ?? ''}, ${values.isActive ?? true}::boolean,
        ${JSON.stringify(values.totalResourceSlots ?? {})}::jsonb, ${values.integrationId ?? null}::text,
        ${values.resourcePolicy ?? 'default'})
      on conflict (domain_name, name) do nothing`);
    return count > 0;
  }

  async update(tx: Transaction, id: string, values: ProjectValues): Promise<void> {
    await tx.execute(sql`
      update projects set ${changedColumns({
        name: typed(values.name, 'text'),
        description: typed(values.description, 'text'),
        is_active: typed(values.isActive, 'boolean'),
        total_resource_slots: typed(values.totalResourceSlots, 'jsonb'),
        integration_id: typed(values.integrationId, 'text'),
        resource_policy: typed(values.resourcePolicy, 'text'),
      })} where id = ${id}::uuid`);
  }

  async remove(tx: Transaction, id: string): Promise<void> {
    await forgetTurns(tx, { projectId: id });
    await tx.execute(sql`delete from projects where id = ${id}::uuid`);
  }

  async addMembers(tx: Transaction, id: string, userIds: readonly string[]): Promise<void> {
    await tx.execute(sql`
      insert into project_members (project_id, user_id)
      select ${id}::uuid, u::uuid from jsonb_array_elements_text(${JSON.stringify(userIds)}::jsonb) u
      on conflict do nothing`);
  }

  async removeMembers(tx: Transaction, id: string, userIds: readonly string[]): Promise<void> {
    await tx.execute(sql`
      delete from project_members where project_id = ${id}::uuid
        and user_id in (select u::uuid from jsonb_array_elements_text(${JSON.stringify(userIds)}::jsonb) u)`);
  }
}

function isNamed(ref: string, domain: string): SQL {
  const isName = sql`(p.domain_name = ${domain} and p.name = ${ref})`;
  return isUuid(ref) ? sql`(p.id = ${ref}::uuid or ${isName})` : isName;
}
