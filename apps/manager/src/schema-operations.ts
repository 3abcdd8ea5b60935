import {
  type AppliedMigration,
  type Database,
  type MigrationStatus,
  managerMigrations,
  migrate,
  migrationHistory,
  migrationStatus,
} from '@backend.ai/database';

/** What can be done with a database whose schema is not the one that this version works with. */
export interface SchemaOperations {
  schemaStatus(): Promise<MigrationStatus>;
  /** In the order of application. */
  schemaHistory(): Promise<AppliedMigration[]>;
  /** Up to the named migration, or all. @returns names of those applied @throws AppError `invalid-input`, `config-invalid` */
  migrateSchema(to: { readonly to?: string }): Promise<string[]>;
}

/** @param database Opened with `migrationDeadlines` where migrations may be applied. */
export function schemaOperations(database: Database): SchemaOperations {
  const migrations = { directory: managerMigrations };
  return {
    schemaStatus: () => migrationStatus(database, migrations),
    schemaHistory: () => migrationHistory(database, migrations),
    migrateSchema: ({ to }) => migrate(database, { ...migrations, to }),
  };
}
