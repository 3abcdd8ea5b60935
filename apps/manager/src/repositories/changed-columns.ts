import { type SQL, sql } from 'drizzle-orm';

/** `set` of an update: those columns that have a value (null is one), and the moment of the change. */
export function changedColumns(values: Readonly<Record<string, SQL | undefined>>): SQL {
  const parts = Object.entries(values).flatMap(([column, value]) =>
    value === undefined ? [] : [sql`${sql.identifier(column)} = ${value}`],
  );
  return sql.join([...parts, sql`modified_at = now()`], sql`, `);
}

/** As a parameter of this type; undefined stays absent. */
export function typed(value: unknown, type: 'text' | 'boolean' | 'int' | 'jsonb'): SQL | undefined {
  if (value === undefined) return undefined;
  const parameter = type === 'jsonb' ? JSON.stringify(value) : value;
  return sql`${parameter}::${sql.raw(type)}`;
}
