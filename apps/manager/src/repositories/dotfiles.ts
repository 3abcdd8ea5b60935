import type { DotfileView } from '@backend.ai/contract';
import type { Database, Transaction } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

export class DotfileRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(accessKey: string, on: Database | Transaction = this.#db): Promise<DotfileView[]> {
    const rows = await on.execute<DotfileView & Record<string, unknown>>(sql`
      select path, permission, content from dotfiles where access_key = ${accessKey} order by path`);
    return [...rows];
  }

  /** So that two changes of the files of one key pair count them one after the other. */
  async lock(tx: Transaction, accessKey: string): Promise<void> {
    await tx.execute(sql`select 1 from keypairs where access_key = ${accessKey} for update`);
  }

  async write(tx: Transaction, accessKey: string, { path, permission, content }: DotfileView): Promise<void> {
    await tx.execute(sql`
      insert into dotfiles (access_key, path, permission, content)
      values (${accessKey}, ${path}, ${permission}, ${content})
      on conflict (access_key, path) do update
        set permission = excluded.permission, content = excluded.content, modified_at = now()`);
  }

  async remove(tx: Transaction, accessKey: string, path: string): Promise<void> {
    await tx.execute(sql`delete from dotfiles where access_key = ${accessKey} and path = ${path}`);
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
