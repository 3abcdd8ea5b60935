import { type SQL, sql } from 'drizzle-orm';
import { type AnyPgColumn, type PgTimestampBuilderInitial, timestamp } from 'drizzle-orm/pg-core';

/** A moment, read and written as `Date`. In raw SQL results it is PostgreSQL's text in UTC. */
export function moment<Name extends string>(name: Name): PgTimestampBuilderInitial<Name> {
  return timestamp(name, { withTimezone: true, mode: 'date' });
}

/** The condition of a CHECK: statuses and kinds are text, because enum types cannot lose or reorder members. */
export function oneOf(column: AnyPgColumn, values: readonly string[]): SQL {
  return sql`${column} in (${quoted(values)})`;
}

export function noneOf(column: AnyPgColumn, values: readonly string[]): SQL {
  return sql`${column} not in (${quoted(values)})`;
}

/** Constants of our own source, never input: DDL takes no parameters. */
function quoted(values: readonly string[]): SQL {
  return sql.raw(values.map((value) => `'${value}'`).join(', '));
}
