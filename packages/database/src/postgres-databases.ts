import { type SQL, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { sqlStateOf, sqlStates } from './database-errors.ts';
import { openPostgres } from './postgres.ts';

/** Copying a large template takes longer than a statement may. */
const deadlines = { statementMs: 60_000 };

export interface NewDatabase {
  readonly name: string;
  /** Copied from this one, to which nobody may be connected. */
  readonly template?: string;
  readonly owner?: string;
}

/** The url of another database on the same server. */
export function withDatabase(url: string, name: string): string {
  const other = new URL(url);
  other.pathname = `/${encodeURIComponent(name)}`;
  return other.href;
}

/** Makes a database unless it is there; true when made. `url` is any database on the server whose user may do so. */
export async function ensureDatabase(url: string, { name, template, owner }: NewDatabase): Promise<boolean> {
  const clauses: SQL[] = [sql`create database ${sql.identifier(name)}`];
  if (template) clauses.push(sql`template ${sql.identifier(template)}`);
  if (owner) clauses.push(sql`owner ${sql.identifier(owner)}`);
  return await onServer(url, async (db) => {
    const found = await db.execute(sql`select 1 from pg_database where datname = ${name}`);
    if (found.length > 0) return false;
    try {
      await db.execute(sql.join(clauses, sql` `));
      return true;
    } catch (error) {
      if (sqlStateOf(error) === sqlStates.duplicateDatabase) return false;
      throw error;
    }
  });
}

/** Connections to it are cut. */
export async function dropDatabase(url: string, name: string): Promise<void> {
  await onServer(url, (db) => db.execute(sql`drop database if exists ${sql.identifier(name)} with (force)`));
}

async function onServer<T>(url: string, work: (db: Database) => Promise<T>): Promise<T> {
  const { db, close } = await openPostgres({ url, maxConnections: 1, deadlines });
  try {
    return await work(db);
  } finally {
    await close();
  }
}
