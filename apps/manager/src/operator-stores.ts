import { type Deadlines, migrationDeadlines } from '@backend.ai/database';
import { silentLogger } from '@backend.ai/telemetry';
import { defaultAdminEmail, managerVersion } from './config.ts';
import { openInstallation } from './installation.ts';
import { createOperator, type Operator } from './operator.ts';
import { restoreBackup } from './restore-backup.ts';
import { type SchemaOperations, schemaOperations } from './schema-operations.ts';
import type { ManagerServerOptions } from './server-config.ts';
import type { BackupReport } from './services/backup/backup-service.ts';
import { openDatabase, openStores, requireSchema, type Stores } from './stores.ts';

/** The operator of an installation on its own stores, while `work` goes on; no manager need run. */
export async function onStores<T>(options: ManagerServerOptions, work: (operator: Operator) => Promise<T>): Promise<T> {
  const stores = await open(options);
  try {
    await requireSchema(stores.database.db);
    return await work(operatorOn(options, stores));
  } finally {
    await stores.close();
  }
}

/** As `onStores`, for what must work with any schema, an older one too. */
export async function onDatabase<T>(
  options: ManagerServerOptions,
  work: (schema: SchemaOperations) => Promise<T>,
): Promise<T> {
  const { db, close } = await openDatabase(options, migrationDeadlines);
  return await work(schemaOperations(db)).finally(close);
}

/** On empty stores. */
export async function restoreStores(options: ManagerServerOptions, file: string): Promise<BackupReport> {
  const stores = await open(options, migrationDeadlines);
  const { configStore } = stores.coordination;
  try {
    return await restoreBackup(file, {
      ...{ db: stores.database.db, configStore, keyFiles: keyFilesOf(options) },
      settings: () => configStore.list(''),
    });
  } finally {
    await stores.close();
  }
}

function open(options: ManagerServerOptions, deadlines?: Partial<Deadlines>): Promise<Stores> {
  return openStores(options, { logger: silentLogger, source: 'operator', deadlines });
}

function operatorOn(options: ManagerServerOptions, { database, coordination }: Stores): Operator {
  const { installationKeyFile, adminEmail = defaultAdminEmail } = options.config;
  const { configStore, liveValues } = coordination;
  return createOperator({
    database,
    ...openInstallation({ database: database.db, installationKeyFile, adminEmail, logger: silentLogger }),
    ...{ configStore, liveValues },
    keyFiles: keyFilesOf(options),
    version: managerVersion,
    logger: silentLogger,
  });
}

/** What a backup takes besides the stores, by the names it has there. */
function keyFilesOf({ config, identityFile }: ManagerServerOptions): Record<string, string> {
  return { 'installation.key': config.installationKeyFile, 'manager.pem': identityFile };
}
