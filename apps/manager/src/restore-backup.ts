import type { ConfigEntry, ConfigStore } from '@backend.ai/coordination';
import { systemClock } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { managerVersion } from './config.ts';
import { BackupRepository } from './repositories/backup.ts';
import { schemaOperations } from './schema-operations.ts';
import { type BackupReport, BackupService } from './services/backup/backup-service.ts';

export interface RestoreTarget {
  /** For statements that take as long as they take. */
  readonly db: Database;
  readonly configStore: ConfigStore;
  readonly keyFiles: Readonly<Record<string, string>>;
  /** What the config store holds already. */
  settings(): Promise<readonly ConfigEntry[]>;
}

/** Fills an empty database, settings and key files from a backup. */
export function restoreBackup(
  file: string,
  { db, configStore, keyFiles, settings }: RestoreTarget,
): Promise<BackupReport> {
  const service = new BackupService({
    rows: new BackupRepository(db),
    ...{ configStore, keyFiles, version: managerVersion, clock: systemClock },
  });
  return service.restore(file, {
    settings,
    async migrateTo(last) {
      await schemaOperations(db).migrateSchema(last === undefined ? {} : { to: last });
    },
  });
}
