import type { DotfileOwnerKind, DotfileView } from '@backend.ai/contract';
import type { Database, Transaction } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';

/** Whose a file is. */
export interface DotfileOwnerRecord {
  readonly kind: DotfileOwnerKind;
  /** Access key, id of the project, or name of the domain. */
  readonly id: string;
}

export interface WrittenDotfile extends DotfileView {
  /** Who writes it is a superadmin. */
  readonly bySuperadmin: boolean;
}

/** The column that says so, and where owners of the kind are. */
const owners: Readonly<Record<DotfileOwnerKind, { readonly column: SQL; readonly table: SQL; readonly key: SQL }>> = {
  keypair: { column: sql.raw('access_key'), table: sql.raw('keypairs'), key: sql.raw('access_key') },
  project: { column: sql.raw('project_id'), table: sql.raw('projects'), key: sql.raw('id') },
  domain: { column: sql.raw('domain_name'), table: sql.raw('domains'), key: sql.raw('name') },
};

export class DotfileRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list({ kind, id }: DotfileOwnerRecord, on: Database | Transaction = this.#db): Promise<DotfileView[]> {
    const rows = await on.execute<DotfileView & Record<string, unknown>>(sql`
      select path, permission, content from dotfiles where ${owners[kind].column}::text = ${id} order by path`);
    return [...rows];
  }

  /** So that two changes of what one owner has count it one after the other. */
  async lock(tx: Transaction, { kind, id }: DotfileOwnerRecord): Promise<void> {
    const { table, key } = owners[kind];
    await tx.execute(sql`select 1 from ${table} where ${key}::text = ${id} for no key update`);
  }

  async insert(tx: Transaction, { kind, id }: DotfileOwnerRecord, file: WrittenDotfile): Promise<void> {
    const { table, column, key } = owners[kind];
    await tx.execute(sql`
      insert into dotfiles (${column}, path, permission, content, by_superadmin)
      select ${key}, ${file.path}, ${file.permission}, ${file.content}, ${file.bySuperadmin}::boolean from ${table} where ${key}::text = ${id}`);
  }

  async update(tx: Transaction, { kind, id }: DotfileOwnerRecord, file: WrittenDotfile): Promise<void> {
    await tx.execute(sql`
      update dotfiles set permission = ${file.permission}, content = ${file.content},
        by_superadmin = ${file.bySuperadmin}::boolean, modified_at = now()
      where ${owners[kind].column}::text = ${id} and path = ${file.path}`);
  }

  async remove(tx: Transaction, { kind, id }: DotfileOwnerRecord, path: string): Promise<void> {
    await tx.execute(sql`delete from dotfiles where ${owners[kind].column}::text = ${id} and path = ${path}`);
  }

  async bootstrapScript(accessKey: string): Promise<string> {
    const [row] = await this.#db.execute<{ script: string }>(
      sql`select script from bootstrap_scripts where access_key = ${accessKey}`,
    );
    return row?.script ?? '';
  }

  /** Empty: there is none any more. */
  async setBootstrapScript(tx: Transaction, accessKey: string, script: string): Promise<void> {
    await tx.execute(
      script === ''
        ? sql`delete from bootstrap_scripts where access_key = ${accessKey}`
        : sql`insert into bootstrap_scripts (access_key, script) values (${accessKey}, ${script})
            on conflict (access_key) do update set script = excluded.script, modified_at = now()`,
    );
  }
}
