import { join } from 'node:path';
import { migratedTemplate, tempDirectory, testDatabase } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { type Database, openPglite } from '../src/index.ts';

/** Everything that migrations make, as lines. Not-null constraints became rows of their own in PostgreSQL 18. */
const parts = {
  columns: `
    select format('%s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
      case when a.attnotnull then 'not null' end, pg_get_expr(d.adbin, d.adrelid)) as line
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped`,
  constraints: `
    select format('%s.%s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) as line
    from pg_constraint where connamespace = 'public'::regnamespace and contype <> 'n'`,
  indexes: `select indexdef as line from pg_indexes where schemaname = 'public'`,
  others: `
    select format('%s %s', relkind, relname) as line
    from pg_class where relnamespace = 'public'::regnamespace and relkind not in ('r', 'i')
    union all
    select format('%s %s', proname, pg_get_functiondef(oid)) from pg_proc where pronamespace = 'public'::regnamespace
    union all
    select format('%s %s', tgname, pg_get_triggerdef(oid)) from pg_trigger where not tgisinternal`,
};

async function linesOf(db: Database, part: keyof typeof parts): Promise<string[]> {
  const rows = await db.execute<{ line: string }>(parts[part]);
  return rows.map((row) => row.line).sort();
}

it('migrations make the same catalogue on PostgreSQL and on PGlite', async () => {
  const postgres = await testDatabase();
  onTestFinished(postgres.close);
  const dataDir = join(await tempDirectory(), 'db');
  const pglite = await openPglite({ dataDir, templateDir: await migratedTemplate() });
  onTestFinished(pglite.close);
  for (const part of Object.keys(parts) as Array<keyof typeof parts>) {
    const lines = await linesOf(postgres.db, part);
    expect(lines, part).not.toEqual([]);
    expect(await linesOf(pglite.db, part), part).toEqual(lines);
  }
});
