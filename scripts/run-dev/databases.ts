import { ensureDatabase, openPostgres, withDatabase } from '@backend.ai/database';
import type { DevOptions } from './options.ts';
import type { DevSecrets } from './secrets.ts';

/** Who owns the databases: no superuser, as in production. */
export const databaseUser = 'backend';
export const databaseNames = { manager: 'backend', appProxy: 'appproxy' } as const;

/** The user and both databases, as far as they are missing. */
export async function ensureDatabases({ ports }: DevOptions, secrets: DevSecrets): Promise<void> {
  const server = `postgres://postgres:${secrets.postgresSuperuser}@127.0.0.1:${ports.postgres}/postgres`;
  const { db, close } = await openPostgres({ url: server, maxConnections: 1 });
  try {
    const found = await db.execute(`select 1 from pg_roles where rolname = '${databaseUser}'`);
    const verb = found.length > 0 ? 'alter' : 'create';
    // The secret is hexadecimal.
    await db.execute(`${verb} role ${databaseUser} login password '${secrets.postgres}'`);
  } finally {
    await close();
  }
  for (const name of Object.values(databaseNames)) {
    await ensureDatabase(withDatabase(server, 'postgres'), { name, owner: databaseUser });
  }
}
