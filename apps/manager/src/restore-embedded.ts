import { chmod } from 'node:fs/promises';
import { type ConfigEntry, EmbeddedConfigStore } from '@backend.ai/coordination';
import { migrationDeadlines, openPglite } from '@backend.ai/database';
import { clusterLayout, lockDirectory, makeClusterFolder } from '@backend.ai/runtime';
import { ensureRequestId, silentLogger } from '@backend.ai/telemetry';
import { restoreBackup } from './restore-backup.ts';
import { schemaOperations } from './schema-operations.ts';
import { type BackupReport, surveyBackup } from './services/backup/backup-service.ts';

/**
 * Makes the data directory of an embedded cluster from a backup; `up` starts it then.
 * @throws AppError `data-directory-locked` while a cluster runs on it, `state-conflict` when it holds another one,
 *   `config-invalid` when it cannot be made, or somebody else's things lie there
 */
export async function restoreEmbedded(folder: string, file: string): Promise<BackupReport> {
  await surveyBackup(file);
  const layout = clusterLayout(folder);
  const { database, keyFiles } = layout;
  makeClusterFolder(layout);
  const lock = await lockDirectory(folder);
  try {
    // As private as `up` keeps it, from the beginning.
    await chmod(folder, 0o700);
    const handle = await openPglite({ dataDir: database });
    try {
      const db = handle.withDeadlines(migrationDeadlines);
      const configStore = new EmbeddedConfigStore(db, silentLogger);
      const settings = async (): Promise<ConfigEntry[]> =>
        (await schemaOperations(db).schemaStatus()).current === null ? [] : await configStore.list('');
      return await ensureRequestId(() => restoreBackup(file, { db, configStore, keyFiles, settings }));
    } finally {
      await handle.close();
    }
  } finally {
    await lock.release();
  }
}
