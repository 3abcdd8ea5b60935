import { EmbeddedConfigStore } from '@backend.ai/coordination';
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
  const lock = await lockDirectory(folder);
  try {
    const handle = await openPglite({ dataDir: database });
    try {
      const db = handle.withDeadlines(migrationDeadlines);
      const service = new BackupService({
        rows: new BackupRepository(db),
        configStore: new EmbeddedConfigStore(db, silentLogger),
        ...{ keyFiles, version: managerVersion, clock: systemClock },
      });
      const migrateTo = async (last: string | undefined): Promise<void> => {
        await schemaOperations(db).migrateSchema(last === undefined ? {} : { to: last });
      };
      return await ensureRequestId(() => service.restore(file, { migrateTo }));
    } finally {
      await handle.close();
    }
  } finally {
    await lock.release();
  }
}
