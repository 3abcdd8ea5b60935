import { rename, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { migrationDeadlines } from './guarded-client.ts';
import { managerMigrations, migrate } from './migrations.ts';
import { openPglite } from './pglite.ts';

/**
 * Makes a migrated, cleanly closed data directory for `templateDir` of `openPglite`. An existing one is replaced when
 * the new one is complete.
 */
export async function buildTemplate(directory: string, migrationsDirectory: string = managerMigrations): Promise<void> {
  const target = resolve(directory);
  const draft = `${target}.build-${process.pid}`;
  await rm(draft, { recursive: true, force: true });
  const handle = await openPglite({ dataDir: draft });
  try {
    await migrate(handle.withDeadlines(migrationDeadlines), { directory: migrationsDirectory });
    await handle.db.execute('checkpoint');
  } finally {
    await handle.close();
  }
  await rm(target, { recursive: true, force: true });
  await rename(draft, target);
}
