import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { migratedTemplate, tempDirectory, testDatabase } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type DatabaseHandle, managerMigrations, migrate, migrationStatus, openPglite } from '../src/index.ts';

describe('the migration runner', () => {
  let handle: DatabaseHandle;
  let directory: string;
  const recordTable = 'trial_migrations';
  const run = (): Promise<string[]> => migrate(handle.db, { directory, recordTable });
  const put = (name: string, text: string): Promise<void> => writeFile(join(directory, `${name}.sql`), text);

  beforeAll(async () => {
    handle = await testDatabase();
  });
  afterAll(() => handle.close());
  beforeEach(async () => {
    directory = join(await tempDirectory(), 'sql');
    await mkdir(directory);
    await handle.db.execute(`drop table if exists ${recordTable}, one, two, three`);
    await put('0001_one', 'create table one (id int); insert into one values (1);');
    await put('0003_three', 'create table three (id int);');
  });

  it('applies files in order, once', async () => {
    expect(await migrationStatus(handle.db, { directory, recordTable })).toEqual({
      current: null,
      applied: [],
      pending: ['0001_one', '0003_three'],
    });
    expect(await run()).toEqual(['0001_one', '0003_three']);
    expect(await run()).toEqual([]);
    expect(await migrationStatus(handle.db, { directory, recordTable })).toEqual({
      current: '0003_three',
      applied: ['0001_one', '0003_three'],
      pending: [],
    });
  });

  it('applies a file that a merged branch put before the last applied one', async () => {
    await run();
    await put('0002_two', 'create table two (id int);');
    expect(await run()).toEqual(['0002_two']);
    expect(await handle.db.execute(sql`select * from two`)).toHaveLength(0);
  });

  it('refuses an applied file that was edited', async () => {
    await run();
    await put('0001_one', 'create table one (id bigint);');
    await expect(run()).rejects.toMatchObject({ code: 'config-invalid', message: expect.stringContaining('0001_one') });
  });

  it('refuses a database that a newer version made', async () => {
    await run();
    await rm(join(directory, '0003_three.sql'));
    await expect(run()).rejects.toMatchObject({
      code: 'config-invalid',
      message: expect.stringContaining('0003_three'),
    });
  });

  it('leaves nothing of a file that fails half-way, and continues there when it is corrected', async () => {
    await put('0002_two', 'create table two (id int); select 1/0;');
    await expect(run()).rejects.toThrow();
    expect((await migrationStatus(handle.db, { directory, recordTable })).applied).toEqual(['0001_one']);
    await put('0002_two', 'create table two (id int);');
    expect(await run()).toEqual(['0002_two', '0003_three']);
  });
});

it('brings a copied template of an older version up to date', async () => {
  const directory = await tempDirectory();
  const handle = await openPglite({ dataDir: join(directory, 'db'), templateDir: await migratedTemplate() });
  expect(await migrate(handle.db, { directory: managerMigrations })).toEqual([]);
  await handle.db.execute('delete from schema_migrations');
  await handle.db.execute('drop schema public cascade');
  await handle.db.execute('create schema public');
  expect(await migrate(handle.db, { directory: managerMigrations })).toContain('0001_initial');
  await handle.close();
});
