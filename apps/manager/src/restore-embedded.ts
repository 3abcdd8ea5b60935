import { chmod, mkdir } from 'node:fs/promises';
import { type ConfigEntry, EmbeddedConfigStore } from '@backend.ai/coordination';
import { systemClock } from '@backend.ai/core';
import { migrationDeadlines, openPglite } from '@backend.ai/database';
import { clusterLayout, lockDirectory } from '@backend.ai/runtime';
import { ensureRequestId, silentLogger } from '@backend.ai/telemetry';
import { managerVersion } from './config.ts';
import { BackupRepository } from './repositories/backup.ts';
import { schemaOperations } from './schema-operations.ts';
import { type BackupReport, BackupService, surveyBackup } from './services/backup/backup-service.ts';

/**
 * Makes the data directory of an embedded cluster from a backup; `up` starts it then.
 * @throws AppError `data-directory-locked` while a cluster runs on it, `state-conflict` when it holds another one
 */
export async function restoreEmbedded(folder: string, file: string): Promise<BackupReport> {
  await surveyBackup(file);
  const { database, keyFiles } = clusterLayout(folder);
  // As private as `up` keeps it, from the beginning.
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const lock = await lockDirectory(folder);
  try {
    await chmod(folder, 0o700);
    const handle = await openPglite({ dataDir: database });
    try {
      const db = handle.withDeadlines(migrationDeadlines);
      const configStore = new EmbeddedConfigStore(db, silentLogger);
      const service = new BackupService({
        rows: new BackupRepository(db),
        ...{ configStore, keyFiles, version: managerVersion, clock: systemClock },
      });
      const migrateTo = async (last: string | undefined): Promise<void> => {
        await schemaOperations(db).migrateSchema(last === undefined ? {} : { to: last });
      };
      const settings = async (): Promise<ConfigEntry[]> =>
        (await schemaOperations(db).schemaStatus()).current === null ? [] : await configStore.list('');
      return await ensureRequestId(() => service.restore(file, { settings, migrateTo }));
    } finally {
      await handle.close();
    }
  } finally {
    await lock.release();
  }
}
