import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '@backend.ai/core';
import { sql } from 'drizzle-orm';
import type { Database } from './database.ts';

/** `drizzle/manager` of this repository; a bundle names its own copy. */
export const managerMigrations: string = fileURLToPath(new URL('../../../drizzle/manager', import.meta.url));

export interface MigrationOptions {
  /** Directory of `NNNN_name.sql` files. */
  readonly directory: string;
  /** Each set of migrations in a database keeps its own record. */
  readonly recordTable?: string;
}

export interface Migration {
  /** File name without `.sql`; files are applied in the order of their names. */
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the file, hexadecimal. */
  readonly hash: string;
}

export interface MigrationStatus {
  /** Name of the last applied one; null on an empty database. */
  readonly current: string | null;
  readonly applied: readonly string[];
  readonly pending: readonly string[];
}

interface AppliedRecord {
  readonly name: string;
  readonly hash: string;
}

/** Any constant: one migrator at a time per PostgreSQL database. PGlite has one session and needs no lock. */
const advisoryLock = 0x6261_6900;

/**
 * Brings a database to the state that the files describe, and names what it applied. Every file runs in a transaction
 * together with its record. Order is by name, but a file that sorts before an applied one and is not applied itself
 * still runs: that is what merging two branches produces.
 * @throws AppError `config-invalid` when an applied file was edited or its file is gone
 */
export async function migrate(db: Database, options: MigrationOptions): Promise<string[]> {
  const files = await readMigrations(options.directory);
  await ensureRecordTable(db, options);
  const done: string[] = [];
  for (const file of pendingAmong(files, await readRecords(db, options))) {
    const applied = await db.transaction(async (tx) => {
      await tx.execute(sql`select pg_advisory_xact_lock(${advisoryLock})`);
      const records = await readRecords(tx, options);
      if (records.some((record) => record.name === file.name)) return false;
      await tx.execute(sql.raw(file.sql));
      await tx.execute(sql`insert into ${recordTable(options)} (name, hash) values (${file.name}, ${file.hash})`);
      return true;
    });
    if (applied) done.push(file.name);
  }
  return done;
}

/**
 * Reads only.
 * @throws AppError `config-invalid` as `migrate` does
 */
export async function migrationStatus(db: Database, options: MigrationOptions): Promise<MigrationStatus> {
  const files = await readMigrations(options.directory);
  const [found] = await db.execute<{ exists: boolean }>(
    sql`select to_regclass(${options.recordTable ?? defaultTable}) is not null as exists`,
  );
  const records = found?.exists ? await readRecords(db, options) : [];
  const pending = pendingAmong(files, records).map((file) => file.name);
  const applied = records.map((record) => record.name);
  return { current: applied.at(-1) ?? null, applied, pending };
}

/** One text for the whole set: changes when any file does. Names templates and caches. */
export async function migrationsHash(directory: string): Promise<string> {
  const hash = createHash('sha256');
  for (const file of await readMigrations(directory)) hash.update(`${file.name}:${file.hash}\n`);
  return hash.digest('hex').slice(0, 16);
}

async function readMigrations(directory: string): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.sql')).sort();
  return Promise.all(
    names.map(async (fileName) => {
      const text = await readFile(join(directory, fileName), 'utf8');
      const hash = createHash('sha256').update(text).digest('hex');
      return { name: fileName.slice(0, -'.sql'.length), sql: text, hash };
    }),
  );
}

function pendingAmong(files: readonly Migration[], records: readonly AppliedRecord[]): Migration[] {
  const hashes = new Map(records.map((record) => [record.name, record.hash]));
  for (const { name, hash } of files) {
    if (hashes.has(name) && hashes.get(name) !== hash) {
      throw new AppError('config-invalid', `The migration ${name} was edited after it was applied.`, {
        hint: 'Restore the file, and put the change into a new migration.',
      });
    }
    hashes.delete(name);
  }
  const [missing] = hashes.keys();
  if (missing !== undefined) {
    throw new AppError(
      'config-invalid',
      `The database has the migration ${missing}, which this version does not know.`,
      {
        hint: 'Run the version of the software that made this database, or a newer one.',
      },
    );
  }
  const applied = new Set(records.map((record) => record.name));
  return files.filter((file) => !applied.has(file.name));
}

const defaultTable = 'schema_migrations';

function recordTable(options: MigrationOptions): ReturnType<typeof sql.identifier> {
  return sql.identifier(options.recordTable ?? defaultTable);
}

async function ensureRecordTable(db: Database, options: MigrationOptions): Promise<void> {
  await db.execute(sql`create table if not exists ${recordTable(options)} (
    name text primary key,
    hash text not null,
    applied_at timestamptz not null default now()
  )`);
}

async function readRecords(db: Pick<Database, 'execute'>, options: MigrationOptions): Promise<AppliedRecord[]> {
  const rows = await db.execute<{ name: string; hash: string }>(
    sql`select name, hash from ${recordTable(options)} order by name`,
  );
  return rows.map(({ name, hash }) => ({ name, hash }));
}
