import type { DomainView, Scope } from '@backend.ai/contract';
import type { Database, Transaction } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import { changedColumns, typed } from './changed-columns.ts';
import { forgetTurns } from './tenant-guards.ts';

/** As the API shows it, but for moments: they are PostgreSQL's texts. */
export type DomainRecord = DomainView;

export interface DomainValues {
  readonly description?: string | undefined;
  readonly isActive?: boolean | undefined;
  readonly totalResourceSlots?: Readonly<Record<string, string>> | undefined;
  readonly integrationId?: string | null | undefined;
}

const columns = sql.raw(`d.name, d.description, d.is_active as "isActive",
  d.total_resource_slots as "totalResourceSlots", d.integration_id as "integrationId", d.created_at as "createdAt",
  d.modified_at as "modifiedAt"`);

export class DomainRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(scope: Scope, limit: number, offset: number): Promise<{ records: DomainRecord[]; total: number }> {
    const from = sql`from domains d where ${scope.extent === 'all'}::boolean or d.name = ${scope.domain}`;
    const records = await this.#db.execute<DomainRecord & Record<string, unknown>>(
      sql`select ${columns} ${from} order by d.name limit ${limit}::int offset ${offset}::int`,
    );
    const [count] = await this.#db.execute<{ total: number }>(sql`select count(*)::int as total ${from}`);
    return { records: [...records], total: count?.total ?? 0 };
  }

  async find(name: string, on: Database | Transaction = this.#db): Promise<DomainRecord | undefined> {
    const [row] = await on.execute<DomainRecord & Record<string, unknown>>(
      sql`select ${columns} from domains d where d.name = ${name}`,
    );
    return row;
  }

  /** False: the name is taken. */
  async insert(tx: Transaction, name: string, values: DomainValues): Promise<boolean> {
    const { count } = await tx.execute(sql`
      insert into domains (name, description, is_active, total_resource_slots, integration_id)
      values (${name}, ${values.description ?? ''}, ${values.isActive ?? true}::boolean,
        ${JSON.stringify(values.totalResourceSlots ?? {})}::jsonb, ${values.integrationId ?? null}::text)
      on conflict do nothing`);
    return count > 0;
  }

  async update(tx: Transaction, name: string, values: DomainValues): Promise<void> {
    await tx.execute(sql`
      update domains set ${changedColumns({
        description: typed(values.description, 'text'),
        is_active: typed(values.isActive, 'boolean'),
        total_resource_slots: typed(values.totalResourceSlots, 'jsonb'),
        integration_id: typed(values.integrationId, 'text'),
      })} where name = ${name}`);
  }

  async remove(tx: Transaction, name: string): Promise<void> {
    await forgetTurns(tx, { domain: name });
    await tx.execute(sql`delete from domains where name = ${name}`);
  }

  /** Users, deleted ones too, and projects, inactive ones too. */
  async countDependents(tx: Transaction, name: string): Promise<{ users: number; projects: number }> {
    const [row] = await tx.execute<{ users: number; projects: number }>(sql`
      select (select count(*)::int from users where domain_name = ${name}) as users,
        (select count(*)::int from projects where domain_name = ${name}) as projects`);
    return row ?? { users: 0, projects: 0 };
  }
}
