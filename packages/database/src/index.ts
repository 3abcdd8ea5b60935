export { isOutage } from './connection-failures.ts';
export { defaultTemplateDirectory } from './data-directory.ts';
export type { Database, DatabaseHandle, Transaction } from './database.ts';
export { isUniqueViolation, sqlStateOf, sqlStates } from './database-errors.ts';
export { fencedBy, leaderLease, requireEpoch } from './fencing.ts';
export { type Deadlines, migrationDeadlines } from './guarded-client.ts';
export { isCurrentEpoch, nextEpoch } from './lease-epochs.ts';
export {
  type AppliedMigration,
  type Migration,
  type MigrationOptions,
  type MigrationStatus,
  managerMigrations,
  migrate,
  migrationHistory,
  migrationStatus,
  migrationsHash,
  newerSchema,
  requireMigrated,
} from './migrations.ts';
export { openPglite, type PgliteOptions, type PgliteServer, startPglite } from './pglite.ts';
export {
  oldestPostgres,
  openPostgres,
  type PostgresHandle,
  type PostgresOptions,
  unreachablePostgresHint,
} from './postgres.ts';
export { dropDatabase, ensureDatabase, type NewDatabase, withDatabase } from './postgres-databases.ts';
export { repeatedTransaction } from './repeated-transaction.ts';
export * from './schema/index.ts';
export { serverVersion } from './server-version.ts';
export { buildTemplate } from './template.ts';
