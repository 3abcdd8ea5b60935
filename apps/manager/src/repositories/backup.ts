import type { Database, Transaction } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

/** Rows of one table as PostgreSQL's own JSON text, which keeps every digit and microsecond; nothing here parses it. */
export interface BackupRows {
  readonly table: string;
  readonly count: number;
  /** A JSON array of objects. */
  readonly rows: string;
}

export interface BackupHead {
  /** Names of applied migrations, in their order. */
  readonly migrations: readonly string[];
  readonly sequences: Readonly<Record<string, string>>;
}

/** Blocks of a table that are read at once, 8 KiB each: a statement costs little beside that many rows. */
const portion = 256;
/** Of the migration runner (restoring makes the schema and with it the records), and settings, which go by themselves. */
const leftOut = ['schema_migrations', 'config_entries'];
/** Migrations put rows there that every installation begins with: those of a backup take their places. */
const seeded = ['keypair_resource_policies', 'project_resource_policies', 'user_resource_policies'];
/** More elections than any installation has seen between a backup and its use. */
const skippedEpochs = 1_000_000;

/** All tables of the database, whatever they are: reads them as of one moment, and fills empty ones. */
export class BackupRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Everything as of one moment. `onRows` is called in an order in which no row refers to a later table. On PGlite
   * everybody else waits until the end, which is why rows leave the database in large pieces, made there.
   */
  async read(onHead: (head: BackupHead) => void, onRows: (rows: BackupRows) => Promise<void>): Promise<void> {
    await this.#db.transaction(
      async (tx) => {
        const migrations = await tx.execute<{ name: string }>(sql`select name from schema_migrations order by name`);
        onHead({ migrations: migrations.map(({ name }) => name), sequences: await sequencesOf(tx) });
        for (const table of await tablesOf(tx)) {
          const blocks = await blocksOf(tx, table);
          for (let first = 0; first < blocks; first += portion) {
            const [read] = await tx.execute<{ count: number; rows: string }>(sql`
              select count(*)::int as count, '[' || string_agg(row_to_json(t)::text, ',') || ']' as rows
              from ${sql.identifier(table)} t
              where ctid >= ${`(${first},0)`}::tid and ctid < ${`(${first + portion},0)`}::tid`);
            if (read && read.count > 0) await onRows({ table, ...read });
          }
        }
      },
      { isolationLevel: 'repeatable read', accessMode: 'read only' },
    );
  }

  /** Tables that hold rows which no migration made. */
  async filledTables(): Promise<string[]> {
    const filled: string[] = [];
    for (const table of (await tablesOf(this.#db)).filter((name) => !seeded.includes(name))) {
      const [row] = await this.#db.execute<{ filled: boolean }>(
        sql`select exists (select 1 from ${sql.identifier(table)}) as filled`,
      );
      if (row?.filled) filled.push(table);
    }
    return filled;
  }

  /**
   * All or nothing, and fit to go on from: agents, who have seen epochs that came after the backup, take orders again,
   * and nobody joins with a token that may have been used since.
   * @returns how many rows
   */
  async fill(rows: AsyncIterable<BackupRows>, sequences: BackupHead['sequences']): Promise<number> {
    return await this.#db.transaction(async (tx) => {
      for (const table of (await tablesOf(tx)).filter((name) => seeded.includes(name))) {
        await tx.execute(sql`delete from ${sql.identifier(table)}`);
      }
      let total = 0;
      for await (const { table, count, rows: values } of rows) {
        const into = sql.identifier(table);
        await tx.execute(
          sql`insert into ${into} select * from json_populate_recordset(null::${into}, ${values}::json)`,
        );
        total += count;
      }
      for (const [name, value] of Object.entries(sequences)) {
        await tx.execute(sql`select setval(${name}::regclass, ${value}::bigint)`);
      }
      await tx.execute(sql`update leases set epoch = epoch + ${skippedEpochs}::bigint, expires_at = now()`);
      await tx.execute(sql`update peer_tokens set expires_at = least(expires_at, now()) where used_at is null`);
      return total;
    });
  }
}

async function blocksOf(db: Transaction, table: string): Promise<number> {
  const [row] = await db.execute<{ blocks: number }>(sql`
    select ceil(pg_relation_size(quote_ident(${table})::regclass) / current_setting('block_size')::float)::int as blocks`);
  return row?.blocks ?? 0;
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
      and c.relname not in ${leftOut} order by c.relname`);
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
