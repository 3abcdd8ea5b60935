import { chmod, mkdir } from 'node:fs/promises';
import { type ConfigEntry, EmbeddedConfigStore } from '@backend.ai/coordination';
import { migrationDeadlines, openPglite } from '@backend.ai/database';
import { clusterLayout, lockDirectory } from '@backend.ai/runtime';
import { ensureRequestId, silentLogger } from '@backend.ai/telemetry';
import { restoreBackup } from './restore-backup.ts';
import { schemaOperations } from './schema-operations.ts';
import { type BackupReport, surveyBackup } from './services/backup/backup-service.ts';

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
