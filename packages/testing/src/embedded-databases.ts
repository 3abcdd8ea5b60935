import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { newId } from '@backend.ai/core';
import {
  type Database,
  type DatabaseHandle,
  type Deadlines,
  type PgliteServer,
  startPglite,
} from '@backend.ai/database';
import { sql } from 'drizzle-orm';

/** What the tables may have grown to before a database is given up instead of emptied: deleted rows keep their place. */
const mostBytes = 16_000_000;
const patient = { statementMs: 60_000, transactionMs: 60_000 };

/**
 * Migrated PGlite databases of one process, used one after the other: to start one takes a second of processor time, to
 * empty one some milliseconds. What comes back is made as `templateDir` was, or is removed: definitions that were changed
 * and statements that still run are reasons to do so.
 */
export class EmbeddedDatabases {
  readonly #directory: string;
  readonly #templateDir: string;
  readonly #idle: Clean[] = [];

  constructor(directory: string, templateDir: string) {
    this.#directory = directory;
    this.#templateDir = templateDir;
  }

  async take(deadlines: Partial<Deadlines>): Promise<DatabaseHandle> {
    const { server, original, dataDir } = this.#idle.pop() ?? (await this.#start());
    const connection = await server.connect(deadlines);
    let returned: Promise<void> | undefined;
    const giveBack = async (): Promise<void> => {
      await connection.close();
      const emptied = await emptyAgain(server, original).catch(() => false);
      if (emptied) {
        this.#idle.push({ server, original, dataDir });
        return;
      }
      await server.close();
      await rm(dataDir, { recursive: true });
    };
    return {
      ...connection,
      close: () => {
        returned ??= giveBack();
        return returned;
      },
    };
  }

  async #start(): Promise<Clean> {
    const dataDir = join(this.#directory, newId());
    const server = await startPglite({ dataDir, templateDir: this.#templateDir });
    const connection = await server.connect(patient);
    const original = await describe(connection.db);

    await connection.close();
    return { server, original, dataDir };
  }
}

interface Clean {
  readonly server: PgliteServer;
  readonly original: Original;
  readonly dataDir: string;
}

/** A database before its first use. */
interface Original {
  /** Changes with every definition: of tables, columns, constraints, functions, roles. */
  readonly catalogue: string;
  /** Names in SQL. */
  readonly tables: readonly string[];
  /** What migrations put into tables, as JSON. */
  readonly rows: ReadonlyMap<string, string>;
}

async function describe(db: Database): Promise<Original> {
  const found = await db.execute<{ name: string }>(
    `select format('%I.%I', schemaname, tablename) as name from pg_tables
     where schemaname not in ('pg_catalog', 'information_schema')`,
  );
  const tables = found.map(({ name }) => name);
  const rows = new Map<string, string>();
  for (const { name } of await filledAmong(db, tables)) rows.set(name, await rowsOf(db, name));
  return { catalogue: await catalogueOf(db), tables, rows };
}

/** Whether the database could be made as it was. */
async function emptyAgain(server: PgliteServer, original: Original): Promise<boolean> {
  const connection = await server.connect(patient);
  try {
    const { db } = connection;
    await db.execute('rollback');
    await db.execute('discard all');
    if ((await catalogueOf(db)) !== original.catalogue) return false;
    const filled = await filledAmong(db, original.tables);
    if (filled.reduce((sum, { bytes }) => sum + Number(bytes), 0) > mostBytes) return false;
    // Without the triggers of foreign keys, in whatever order.
    await db.execute('set session_replication_role = replica');
    await db.execute(filled.map(({ name }) => (original.rows.has(name) ? '' : `delete from ${name};`)).join(' '));
    for (const [table, rows] of original.rows) {
      if ((await rowsOf(db, table)) === rows) continue;
      await db.execute(sql`delete from ${sql.raw(table)}`);
      await db.execute(
        sql`insert into ${sql.raw(table)} select * from jsonb_populate_recordset(null::${sql.raw(table)}, ${rows}::jsonb)`,
      );
    }
    await db.execute(
      `reset session_replication_role;
       select setval(format('%I.%I', schemaname, sequencename), start_value, false)
       from pg_sequences where last_value is not null`,
    );
    return true;
  } finally {
    await connection.close();
  }
}

const catalogues = ['attrdef', 'attribute', 'authid', 'constraint', 'index', 'namespace', 'proc', 'trigger', 'type'];

async function catalogueOf(db: Database): Promise<string> {
  const states = catalogues.map((name) => `select count(*) || ':' || max(xmin::text::bigint) as state from pg_${name}`);
  return await textOf(db, `select string_agg(state, ',') as text from (${states.join(' union all ')}) as states`);
}

async function filledAmong(db: Database, tables: readonly string[]): Promise<{ name: string; bytes: string }[]> {
  const each = tables.map(
    (name) => `select '${name}' as name, pg_total_relation_size('${name}') as bytes where exists (select from ${name})`,
  );
  return await db.execute<{ name: string; bytes: string }>(each.join(' union all '));
}

function rowsOf(db: Database, table: string): Promise<string> {
  return textOf(db, `select coalesce(jsonb_agg(t order by t::text), '[]') as text from ${table} t`);
}

async function textOf(db: Database, query: string): Promise<string> {
  const [row] = await db.execute<{ text: unknown }>(query);
  return typeof row!.text === 'string' ? row!.text : JSON.stringify(row!.text);
}
