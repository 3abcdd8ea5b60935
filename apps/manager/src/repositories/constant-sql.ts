import { type SQL, sql } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';

const dialect = new PgDialect();

/**
 * A part of statements that is always the same, put together once: drizzle would walk through its pieces with every
 * statement. It has no parameters.
 */
export function constantSql(part: SQL): SQL {
  const { sql: text, params } = dialect.sqlToQuery(part);
  if (params.length > 0) throw new Error(`A part of statements is not constant: ${text}`);
  return sql.raw(text);
}
