import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '@backend.ai/core';
import { sql } from 'drizzle-orm';
import type { Database, Transaction } from './database.ts';

/** `drizzle/manager` of this repository; a bundle names its own copy. */
export const managerMigrations: string = fileURLToPath(new URL('../../../drizzle/manager', import.meta.url));

export interface MigrationOptions {
  /** Directory of `NNNN_name.sql` files. */
  readonly directory: string;
  /** Each set of migrations in a database keeps its own record. */
  readonly recordTable?: string;
}

export interface MigrateOptions extends MigrationOptions {
  /** Name of the last one to apply; all there are unless given. */
  readonly to?: string | undefined;
}

/** What people type: to apply what is missing, and to see what there is. */
export interface MigrationCommands {
  readonly migrate: string;
  readonly show: string;
}

export interface Migration {
  /** File name without `.sql`; files are applied in the order of their names. */
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the file, hexadecimal. */
  readonly hash: string;
}

export interface AppliedMigration {
  readonly name: string;
  readonly hash: string;
  /** ISO 8601. */
  readonly appliedAt: string;
}

export interface MigrationStatus {
  /** Name of the last applied one; null on an empty database. */
  readonly current: string | null;
  /** Name of the last one that this version knows. */
  readonly head: string | null;
  readonly applied: readonly string[];
  readonly pending: readonly string[];
  /** Applied ones that this version does not know: a newer one made the database. */
  readonly unknown: readonly string[];
}

/** Any constant: one migrator at a time per PostgreSQL database. PGlite has one session and needs no lock. */
const advisoryLock = 0x6261_6900;

/**
 * Brings a database to the state that the files describe, and names what it applied. Every file runs in a transaction
 * together with its record, and one process at a time runs files. Order is by name, but a file that sorts before an
 * applied one and is not applied itself still runs: that is what merging two branches produces.
 *
 * Takes a database with `migrationDeadlines`.
 * @throws AppError `config-invalid` when an applied file was edited or its file is gone; `invalid-input` when `to` is
 *   unknown, or lies behind what is applied
 */
export async function migrate(db: Database, options: MigrateOptions): Promise<string[]> {
  const files = await readMigrations(options.directory);
  const wanted = wantedAmong(files, await readRecords(db, options), options.to);
  const done: string[] = [];
  for (const file of wanted) {
    const applied = await db.transaction(async (tx) => {
      await tx.execute(sql`select pg_advisory_xact_lock(${advisoryLock})`);
      await ensureRecordTable(tx, options);
      // Another process may have been here meanwhile.
      if (pendingAmong(files, await readRecords(tx, options)).every(({ name }) => name !== file.name)) return false;
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
 * @throws AppError `config-invalid` when an applied file was edited
 */
export async function migrationStatus(db: Database, options: MigrationOptions): Promise<MigrationStatus> {
  const files = await readMigrations(options.directory);
  const records = await readRecords(db, options);
  const { pending, unknown } = compare(files, records);
  const applied = records.map((record) => record.name);
  return {
    ...{ current: applied.at(-1) ?? null, head: files.at(-1)?.name ?? null, applied },
    ...{ pending: pending.map((file) => file.name), unknown },
  };
}

/** What was applied, in the order of application. Reads only. */
export async function migrationHistory(db: Database, options: MigrationOptions): Promise<AppliedMigration[]> {
  const records = await readRecords(db, options);
  return records.sort((left, right) => left.appliedAt.localeCompare(right.appliedAt));
}

/**
 * For services at their start: the database is as this version wants it.
 * @throws AppError `config-invalid` when it is older or newer
 */
export function requireMigrated(status: MigrationStatus, commands: MigrationCommands): void {
  const { current, head, pending } = status;
  const newer = newerSchema(status, `${newerHint} What it has: ${commands.show}`);
  if (newer) throw newer;
  if (pending.length === 0) return;
  const message = current
    ? `The database is at ${current}, and this version needs ${pending.length} more migrations up to ${head}.`
    : 'The database is empty.';
  throw new AppError('config-invalid', message, {
    hint: `Bring it up to date: ${commands.migrate}`,
    data: { pending },
  });
}

const newerHint = 'Run the version of the software that made this database, or a newer one.';

/** Why a version cannot work with a database that has more than it knows; undefined where it has not. */
export function newerSchema({ unknown }: Pick<MigrationStatus, 'unknown'>, hint = newerHint): AppError | undefined {
  const [first] = unknown;
  if (first === undefined) return undefined;
  const message = `The database has the migration ${first}, which this version does not know.`;
  return new AppError('config-invalid', message, { hint, data: { unknown } });
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

/** @throws AppError `config-invalid` when an applied file was edited */
function compare(
  files: readonly Migration[],
  records: readonly AppliedMigration[],
): { readonly pending: Migration[]; readonly unknown: string[] } {
  const hashes = new Map(records.map((record) => [record.name, record.hash]));
  for (const { name, hash } of files) {
    if (hashes.has(name) && hashes.get(name) !== hash) {
      throw new AppError('config-invalid', `The migration ${name} was edited after it was applied.`, {
        hint: 'Restore the file, and put the change into a new migration.',
      });
    }
    hashes.delete(name);
  }
  const applied = new Set(records.map((record) => record.name));
  return { pending: files.filter((file) => !applied.has(file.name)), unknown: [...hashes.keys()] };
}

/** @throws AppError `config-invalid` when an applied file was edited or is not known */
function pendingAmong(files: readonly Migration[], records: readonly AppliedMigration[]): Migration[] {
  const { pending, unknown } = compare(files, records);
  const newer = newerSchema({ unknown });
  if (newer) throw newer;
  return pending;
}

function wantedAmong(
  files: readonly Migration[],
  records: readonly AppliedMigration[],
  to: string | undefined,
): Migration[] {
  const pending = pendingAmong(files, records);
  if (to === undefined) return pending;
  if (files.every((file) => file.name !== to)) {
    throw new AppError('invalid-input', `There is no migration ${to}.`, {
      hint: `Choose one of: ${files.map((file) => file.name).join(', ')}`,
    });
  }
  const current = records.at(-1)?.name;
  if (current !== undefined && current > to) {
    throw new AppError('invalid-input', `The database is at ${current} already; migrations only go forward.`, {
      hint: 'To go back, restore a backup that was made before.',
    });
  }
  return pending.filter((file) => file.name <= to);
}

const defaultTable = 'schema_migrations';

function recordTable(options: MigrationOptions): ReturnType<typeof sql.identifier> {
  return sql.identifier(options.recordTable ?? defaultTable);
}

async function ensureRecordTable(tx: Transaction, options: MigrationOptions): Promise<void> {
  await tx.execute(sql`create table if not exists ${recordTable(options)} (
    name text primary key,
    hash text not null,
    applied_at timestamptz not null default now()
  )`);
}

/** By name. None where no migration ever ran. */
async function readRecords(db: Pick<Database, 'execute'>, options: MigrationOptions): Promise<AppliedMigration[]> {
  const [found] = await db.execute<{ exists: boolean }>(
    sql`select to_regclass(${options.recordTable ?? defaultTable}) is not null as exists`,
  );
  if (!found?.exists) return [];
  const rows = await db.execute<{ name: string; hash: string; at: string }>(
    sql`select name, hash, applied_at as at from ${recordTable(options)} order by name`,
  );
  return rows.map(({ name, hash, at }) => ({ name, hash, appliedAt: new Date(at).toISOString() }));
}
