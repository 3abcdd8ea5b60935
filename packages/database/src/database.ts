import type { ExtractTablesWithRelations } from 'drizzle-orm';
import type { PgDatabase, PgTransaction } from 'drizzle-orm/pg-core';
import { drizzle, type PostgresJsQueryResultHKT } from 'drizzle-orm/postgres-js';
import type { Sql } from 'postgres';
import { type Deadlines, guardClient } from './guarded-client.ts';
import * as schema from './schema/index.ts';

type Schema = typeof schema;

/**
 * What repositories take: drizzle over postgres.js, whether PostgreSQL or PGlite answers. Rows of raw SQL
 * (`db.execute`) are an array with `count`, the number of affected rows; bigint and numeric arrive as texts there.
 *
 * `db.transaction(async (tx) => …)` holds a connection, on PGlite the only one: inside, use `tx` alone and await
 * nothing but the database.
 */
export type Database = PgDatabase<PostgresJsQueryResultHKT, Schema>;
export type Transaction = PgTransaction<PostgresJsQueryResultHKT, Schema, ExtractTablesWithRelations<Schema>>;

/** A database and the right to close it. */
export interface DatabaseHandle {
  readonly db: Database;
  /**
   * The same database, for statements that come all the time and whose plan does not depend on their values: it is made
   * once per connection, where PostgreSQL would otherwise make up its mind with each call, and by indexes alone: what such a
   * statement looks for has to have one. There on few connections of its own.
   */
  readonly steady: Database;
  /**
   * The same database with other deadlines, for work that takes its time, as migrations do. On PostgreSQL with
   * connections of its own, as the server keeps deadlines, too: call it once and keep the answer.
   */
  withDeadlines(deadlines: Deadlines): Database;
  /** Waits shortly for running statements, then ends the connections. Safe to call twice. */
  close(): Promise<void>;
}

export function databaseOver(client: Sql, deadlines: Deadlines): Database {
  return drizzle(guardClient(client, deadlines), { schema });
}
