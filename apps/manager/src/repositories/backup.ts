import type { Database, Transaction } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

/** A row as PostgreSQL's own JSON text, which keeps every digit and microsecond; nothing here parses it. */
export interface BackupRow {
  readonly table: string;
  readonly row: string;
}

export interface BackupHead {
  /** Names of applied migrations, in their order. */
  readonly migrations: readonly string[];
  readonly sequences: Readonly<Record<string, string>>;
}

/** Rows that go at once. */
const portion = 500;
/** Belongs to the migration runner: restoring makes the schema first and the records with it. */
const recordTable = 'schema_migrations';

/** All tables of the database, whatever they are: reads them as of one moment, and fills empty ones. */
export class BackupRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Everything as of one moment. `onRow` is called in an order in which no row refers to a later table. */
  async read(onHead: (head: BackupHead) => void, onRow: (row: BackupRow) => Promise<void>): Promise<void> {
    await this.#db.transaction(
      async (tx) => {
        const migrations = await tx.execute<{ name: string }>(
          sql`select name from ${sql.identifier(recordTable)} order by name`,
        );
        onHead({ migrations: migrations.map(({ name }) => name), sequences: await sequencesOf(tx) });
        for (const table of await tablesOf(tx)) {
          await tx.execute(sql`declare rows_to_keep no scroll cursor for
            select to_jsonb(t)::text as row from ${sql.identifier(table)} t`);
          for (;;) {
            const rows = await tx.execute<{ row: string }>(sql`fetch ${sql.raw(String(portion))} from rows_to_keep`);
            for (const { row } of rows) await onRow({ table, row });
            if (rows.length < portion) break;
          }
          await tx.execute(sql`close rows_to_keep`);
        }
      },
      { isolationLevel: 'repeatable read', accessMode: 'read only' },
    );
  }

  /** Tables that hold rows. */
  async filledTables(): Promise<string[]> {
    const filled: string[] = [];
    for (const table of await tablesOf(this.#db)) {
      const [row] = await this.#db.execute<{ filled: boolean }>(
        sql`select exists (select 1 from ${sql.identifier(table)}) as filled`,
      );
      if (row?.filled) filled.push(table);
    }
    return filled;
  }

  /** All or nothing. @returns how many rows */
  async fill(rows: AsyncIterable<BackupRow>, sequences: BackupHead['sequences']): Promise<number> {
    return await this.#db.transaction(async (tx) => {
      let count = 0;
      let waiting: BackupRow[] = [];
      const flush = async (): Promise<void> => {
        const [first] = waiting;
        if (!first) return;
        const table = sql.identifier(first.table);
        await tx.execute(sql`insert into ${table}
          select * from jsonb_populate_recordset(null::${table}, ${`[${waiting.map(({ row }) => row).join(',')}]`}::jsonb)`);
        count += waiting.length;
        waiting = [];
      };
      for await (const row of rows) {
        if (waiting.length === portion || (waiting[0] && waiting[0].table !== row.table)) await flush();
        waiting.push(row);
      }
      await flush();
      for (const [name, value] of Object.entries(sequences)) {
        await tx.execute(sql`select setval(${name}::regclass, ${value}::bigint)`);
      }
      return count;
    });
  }

  /**
   * Lets agents, who have seen epochs that came after the backup, take orders again: no election since then can have
   * reached the new one.
   */
  async skipEpochs(by: number): Promise<void> {
    await this.#db.execute(sql`update leases set epoch = epoch + ${by}::bigint, expires_at = now()`);
  }
}

async function sequencesOf(db: Transaction): Promise<Record<string, string>> {
  const rows = await db.execute<{ name: string; value: string | null }>(sql`
    select sequencename as name, last_value::text as value from pg_sequences where schemaname = current_schema()`);
  return Object.fromEntries(rows.flatMap(({ name, value }) => (value === null ? [] : [[name, value]])));
}

/** In an order in which every table comes after those it refers to. */
async function tablesOf(db: Pick<Database, 'execute'>): Promise<string[]> {
  const tables = await db.execute<{ name: string; refersTo: string[] }>(sql`
    select c.relname as name, coalesce((
      select json_agg(distinct r.relname) from pg_constraint f join pg_class r on r.oid = f.confrelid
      where f.contype = 'f' and f.conrelid = c.oid and f.confrelid <> c.oid), '[]') as "refersTo"
    from pg_class c where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace
      and c.relname <> ${recordTable} order by c.relname`);
  const ordered: string[] = [];
  const left = new Map(tables.map(({ name, refersTo }) => [name, refersTo]));
  while (left.size > 0) {
    const ready = [...left].filter(([, refersTo]) => refersTo.every((other) => !left.has(other)));
    // Tables that refer to each other in a circle: none today, and `fill` would say so.
    for (const [name] of ready.length > 0 ? ready : left) {
      ordered.push(name);
      left.delete(name);
    }
  }
  return ordered;
}
