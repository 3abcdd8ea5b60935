import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import {
  buildTemplate,
  type DatabaseHandle,
  type Deadlines,
  managerMigrations,
  migrationsHash,
  openPglite,
} from '@backend.ai/database';
import { fastTempRoot, makeTempDirectory } from './temp-directory.ts';

let template: Promise<string> | undefined;

/**
 * A data directory with all migrations, to copy from. Made once per machine and set of migrations; test processes that
 * race make it twice and the last rename wins.
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
    await buildTemplate(directory);
  }
  return directory;
}

/** An own, empty, migrated database in a temporary directory that `close` removes. */
export async function testDatabase(deadlines: Partial<Deadlines> = {}): Promise<DatabaseHandle> {
  const [templateDir, directory] = await Promise.all([migratedTemplate(), makeTempDirectory(fastTempRoot())]);
  const handle = await openPglite({ dataDir: join(directory.path, 'db'), templateDir, deadlines });
  return {
    db: handle.db,
    close: async () => {
      await handle.close();
      await directory.remove();
    },
  };
}
