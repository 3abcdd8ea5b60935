import { testDatabase } from '@backend.ai/testing';
import { is, sql } from 'drizzle-orm';
import { getTableConfig, PgTable } from 'drizzle-orm/pg-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DatabaseHandle } from '../src/index.ts';
import * as schema from '../src/schema/index.ts';

const declarations: unknown[] = Object.values(schema);
const tables = declarations
  .filter((value): value is PgTable => is(value, PgTable))
  .map((table) => getTableConfig(table));

const names = (rows: Iterable<Record<string, unknown>>): string[] => [...rows].map((row) => String(row.name)).sort();

describe('the migrated catalogue', () => {
  let handle: DatabaseHandle;
  beforeAll(async () => {
    handle = await testDatabase();
  });
  afterAll(() => handle.close());

  it('has the tables that the code declares and no others', async () => {
    const rows = await handle.db.execute(sql`
      select table_name as name from information_schema.tables where table_schema = 'public'`);
    expect(names(rows)).toEqual([...tables.map((table) => table.name), 'schema_migrations'].sort());
  });

  it.each(tables.map((table) => [table.name, table] as const))('agrees with the code on %s', async (name, table) => {
    const columns = await handle.db.execute(sql`
      select attname as name, format_type(atttypid, atttypmod) as type, attnotnull as not_null, atthasdef as has_default
      from pg_attribute where attrelid = ${name}::regclass and attnum > 0 and not attisdropped`);
    const actual = [...columns].map((column) => ({ ...column }));
    const declared = table.columns.map((column) => ({
      name: column.name,
      type: column.getSQLType().replace(', ', ','),
      not_null: column.notNull,
      has_default: column.hasDefault,
    }));
    const byName = (left: { name?: unknown }, right: { name?: unknown }) =>
      String(left.name).localeCompare(String(right.name));
    expect(actual.sort(byName)).toEqual(declared.sort(byName));
  });

  it.each(tables.map((table) => [table.name, table] as const))(
    'has the keys, checks and indexes of %s',
    async (name, table) => {
      const checks = await handle.db.execute(sql`
      select conname as name from pg_constraint where conrelid = ${name}::regclass and contype = 'c'`);
      expect(names(checks)).toEqual(table.checks.map((check) => check.name).sort());

      const indexes = await handle.db.execute(sql`
      select relname as name from pg_index join pg_class on pg_class.oid = indexrelid where indrelid = ${name}::regclass`);
      const declared = [
        ...table.indexes.map((index) => index.config.name),
        ...table.uniqueConstraints.map((unique) => unique.name),
        ...table.columns.filter((column) => column.isUnique).map((column) => column.uniqueName),
        `${name}_pkey`,
      ];
      expect(names(indexes)).toEqual(declared.sort());

      const references = await handle.db.execute(sql`
      select a.attname || ' -> ' || c.confrelid::regclass as name
      from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey)
      where c.conrelid = ${name}::regclass and c.contype = 'f'`);
      const declaredReferences = table.foreignKeys.map((key) => {
        const { columns, foreignTable } = key.reference();
        return `${columns[0]?.name} -> ${getTableConfig(foreignTable).name}`;
      });
      expect(names(references)).toEqual(declaredReferences.sort());
    },
  );

  it.each(tables.flatMap((table) => table.checks.map((check) => [check.name, table, check] as const)))(
    'means by the check %s what the code does',
    async (name, table, check) => {
      // The declared condition goes through the same parser as the migrated one, so that texts can be compared.
      const condition = handle.db.select({ text: check.value }).from(sql`nothing`).toSQL().sql;
      const text = condition.slice('select '.length, condition.lastIndexOf(' from nothing'));
      const definition = async (constraint: string): Promise<unknown> => {
        const [row] = await handle.db.execute(sql`
          select pg_get_constraintdef(oid) as text from pg_constraint
          where conname = ${constraint} and conrelid = ${table.name}::regclass`);
        return row?.text;
      };
      await handle.db.execute(sql.raw(`alter table ${table.name} add constraint declared_check check (${text})`));
      try {
        expect(await definition('declared_check')).toBe(await definition(name));
      } finally {
        await handle.db.execute(sql.raw(`alter table ${table.name} drop constraint declared_check`));
      }
    },
  );
});
