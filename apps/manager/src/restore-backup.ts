import type { ConfigEntry, ConfigStore } from '@backend.ai/coordination';
import { systemClock } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { silentLogger } from '@backend.ai/telemetry';
import { managerVersion } from './config.ts';
import { AuditRepository } from './repositories/audit.ts';
import { BackupRepository } from './repositories/backup.ts';
import { schemaOperations } from './schema-operations.ts';
import { AuditLog, operatorActor } from './services/audit/audit-log.ts';
import { type BackupReport, BackupService } from './services/backup/backup-service.ts';

export interface RestoreTarget {
  /** For statements that take as long as they take. */
  readonly db: Database;
  readonly configStore: ConfigStore;
  readonly keyFiles: Readonly<Record<string, string>>;
  /** What the config store holds already. */
  settings(): Promise<readonly ConfigEntry[]>;
}

/** Fills an empty database, settings and key files from a backup. The audit log that came with it tells of it. */
export async function restoreBackup(
  file: string,
  { db, configStore, keyFiles, settings }: RestoreTarget,
): Promise<BackupReport> {
  const service = new BackupService({
    rows: new BackupRepository(db),
    ...{ configStore, keyFiles, version: managerVersion, clock: systemClock },
  });
  const report = await service.restore(file, {
    settings,
    async migrateTo(last) {
      await schemaOperations(db).migrateSchema(last === undefined ? {} : { to: last });
    },
  });
  const { createdAt, rows, settings: restored } = report;
  await new AuditLog(new AuditRepository(db), silentLogger).record({
    ...{ actor: operatorActor, action: 'operator:restore', changes: { createdAt, rows, settings: restored } },
    target: { kind: 'backup', id: file, domain: null },
  });
  return report;
}
