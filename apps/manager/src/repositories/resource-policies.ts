import type { Scope } from '@backend.ai/contract';
import {
  type Database,
  type KeypairResourcePolicyRow,
  keypairResourcePolicies,
  type ProjectResourcePolicyRow,
  projectResourcePolicies,
  type UserResourcePolicyRow,
  userResourcePolicies,
} from '@backend.ai/database';
import { and, eq, getTableColumns, type SQL, sql } from 'drizzle-orm';
import type { PgTable } from 'drizzle-orm/pg-core';

export type PolicyKind = 'keypair' | 'user' | 'project';

/** A row with its moment as ISO 8601. */
type Read<Row extends { createdAt: Date }> = Omit<Row, 'createdAt'> & { readonly createdAt: string };
export type KeypairPolicyRecord = Read<KeypairResourcePolicyRow>;
export type UserPolicyRecord = Read<UserResourcePolicyRow>;
export type ProjectPolicyRecord = Read<ProjectResourcePolicyRow>;

const tables = { keypair: keypairResourcePolicies, user: userResourcePolicies, project: projectResourcePolicies };

/** Policies of one kind. What is in use is kept by the foreign keys of what uses it. */
export class ResourcePolicyRepository<Row extends { name: string; createdAt: Date }> {
  readonly #db: Database;
  readonly #kind: PolicyKind;
  readonly #table: PgTable;
  readonly #name: SQL;

  constructor(db: Database, kind: PolicyKind) {
    this.#db = db;
    this.#kind = kind;
    this.#table = tables[kind];
    this.#name = sql`${tables[kind].name}`;
  }

  /** Those that the scope may see, by name. */
  async list(scope: Scope): Promise<Array<Read<Row>>> {
    const rows = await this.#db
      .select(this.#columns())
      .from(this.#table)
      .where(this.#visible(scope))
      .orderBy(this.#name);
    return rows.map(read<Row>);
  }

  async find(name: string, scope: Scope): Promise<Read<Row> | undefined> {
    const condition = and(this.#visible(scope), eq(this.#name, name));
    const [row] = await this.#db.select(this.#columns()).from(this.#table).where(condition);
    return row && read<Row>(row);
  }

  /** @throws the database's `uniqueViolation` when there is one of the name */
  async create(values: Partial<Row> & { name: string }): Promise<Read<Row>> {
    const [row] = await this.#db.insert(this.#table).values(values).returning();
    return read<Row>(row!);
  }

  async modify(name: string, values: Partial<Row>): Promise<Read<Row> | undefined> {
    if (Object.keys(values).length === 0) {
      const [row] = await this.#db.select(this.#columns()).from(this.#table).where(eq(this.#name, name));
      return row && read<Row>(row);
    }
    const [row] = await this.#db.update(this.#table).set(values).where(eq(this.#name, name)).returning();
    return row && read<Row>(row);
  }

  /** False: there is none. @throws the database's `foreignKeyViolation` while something uses it */
  async delete(name: string): Promise<boolean> {
    return (await this.#db.delete(this.#table).where(eq(this.#name, name)).returning()).length > 0;
  }

  #columns() {
    return getTableColumns(this.#table);
  }

  /** Narrower than all: the policies that are about the scope's user. */
  #visible({ extent, userId }: Scope): SQL {
    if (extent === 'all') return sql`true`;
    const own = {
      keypair: sql`select resource_policy from keypairs where user_id = ${userId}::uuid`,
      user: sql`select resource_policy from users where id = ${userId}::uuid`,
      project: sql`select p.resource_policy from projects p join project_members m on m.project_id = p.id
        where m.user_id = ${userId}::uuid`,
    }[this.#kind];
    return sql`${this.#name} in (${own})`;
  }
}

function read<Row extends { createdAt: Date }>(row: unknown): Read<Row> {
  const { createdAt, ...rest } = row as Row;
  return { ...rest, createdAt: createdAt.toISOString() };
}
