import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { newId } from '@backend.ai/core';
import {
  buildTemplate,
  type DatabaseHandle,
  type Deadlines,
  dropDatabase,
  ensureDatabase,
  managerMigrations,
  migrate,
  migrationsHash,
  openPglite,
  openPostgres,
  withDatabase,
} from '@backend.ai/database';
import { EmbeddedDatabases } from './embedded-databases.ts';
import { provided, providedServers } from './servers.ts';
import { fastTempRoot, makeTempDirectory } from './temp-directory.ts';

let template: Promise<string> | undefined;

/**
 * A data directory with all migrations, to copy from. Made once per machine and set of migrations; of test processes that
 * race the first one's stays, as others copy from it already.
 */
export function migratedTemplate(): Promise<string> {
  template ??= prepareTemplate();
  return template;
}

async function prepareTemplate(): Promise<string> {
  const parent = join(fastTempRoot(), `backend.ai-templates-${userInfo().uid}`);
  const directory = join(parent, await migrationsHash(managerMigrations));
  if (!existsSync(join(directory, 'PG_VERSION'))) {
    await mkdir(parent, { recursive: true, mode: 0o700 });
    // Its lock is a socket beside it, whose name has to be short.
    const draft = join(parent, newId().slice(-12));
    await buildTemplate(draft);
    await rename(draft, directory).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
      await rm(draft, { recursive: true });
    });
  }
  return directory;
}

/**
 * An own, empty, migrated database that `close` removes or empties: on PostgreSQL in the vitest project `servers`, else
 * PGlite in a temporary directory. A test file that uses it can run on both.
 */
export async function testDatabase(deadlines: Partial<Deadlines> = {}): Promise<DatabaseHandle> {
  const servers = await providedServers();
  return servers ? onPostgres(servers.postgresUrl, deadlines) : onPglite(deadlines);
}

let embedded: EmbeddedDatabases | undefined;

async function onPglite(deadlines: Partial<Deadlines>): Promise<DatabaseHandle> {
  const shared = await provided('embeddedDatabases');
  if (shared === undefined) return onOwnPglite(deadlines);
  embedded ??= new EmbeddedDatabases(shared, await migratedTemplate());
  return embedded.take(deadlines);
}

async function onOwnPglite(deadlines: Partial<Deadlines>): Promise<DatabaseHandle> {
  const [templateDir, directory] = await Promise.all([migratedTemplate(), makeTempDirectory(fastTempRoot())]);
  const handle = await openPglite({ dataDir: join(directory.path, 'db'), templateDir, deadlines });
  return {
    ...handle,
    close: async () => {
      await handle.close();
      await directory.remove();
    },
  };
}

async function onPostgres(serverUrl: string, deadlines: Partial<Deadlines>): Promise<DatabaseHandle> {
  const database = await postgresDatabase(serverUrl);
  const handle = await openPostgres({ url: database.url, deadlines });
  return {
    ...handle,
    close: async () => {
      await handle.close();
      await database.remove();
    },
  };
}

export interface PostgresDatabase {
  readonly url: string;
  remove(): Promise<void>;
}

/** A new migrated database on a server, for tests that make connections of their own. */
export async function postgresDatabase(serverUrl: string): Promise<PostgresDatabase> {
  const template = await postgresTemplate(serverUrl);
  const name = `test_${newId().replaceAll('-', '')}`;
  await ensureDatabase(serverUrl, { name, template });
  return { url: withDatabase(serverUrl, name), remove: () => dropDatabase(serverUrl, name) };
}

/** Made once per server; of processes that race one makes it, and the others wait. */
async function postgresTemplate(serverUrl: string): Promise<string> {
  const name = `template_${await migrationsHash(managerMigrations)}`;
  const draft = `draft_${newId().replaceAll('-', '')}`;
  const server = await openPostgres({ url: serverUrl, maxConnections: 1, deadlines: { statementMs: 60_000 } });
  try {
    // A lock of the connection, not of a transaction: databases cannot be made inside of one.
    await server.db.execute(`select pg_advisory_lock(hashtext('${name}'))`);
    const found = await server.db.execute(`select 1 from pg_database where datname = '${name}'`);
    if (found.length === 0) {
      await ensureDatabase(serverUrl, { name: draft });
      const handle = await openPostgres({ url: withDatabase(serverUrl, draft) });
      await migrate(handle.db, { directory: managerMigrations }).finally(handle.close);
      await server.db.execute(`alter database ${draft} rename to ${name}`);
    }
    return name;
  } finally {
    await server.close();
  }
}
