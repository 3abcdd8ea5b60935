import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { migratedTemplate, tempDirectory, testDatabase } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import {
  type DatabaseHandle,
  managerMigrations,
  migrate,
  migrationDeadlines,
  migrationHistory,
  migrationStatus,
  openPglite,
  requireMigrated,
} from '../src/index.ts';

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

  const commands = { migrate: 'migrate it', show: 'show it' };

  it('applies files in order, once', async () => {
    expect(await migrationStatus(handle.db, { directory, recordTable })).toEqual({
      current: null,
      head: '0003_three',
      applied: [],
      pending: ['0001_one', '0003_three'],
      unknown: [],
    });
    expect(await run()).toEqual(['0001_one', '0003_three']);
    expect(await run()).toEqual([]);
    expect(await migrationStatus(handle.db, { directory, recordTable })).toEqual({
      current: '0003_three',
      head: '0003_three',
      applied: ['0001_one', '0003_three'],
      pending: [],
      unknown: [],
    });
  });

  it('goes as far as it is told, and never back', async () => {
    await put('0002_two', 'create table two (id int);');
    const runTo = (to: string) => migrate(handle.db, { directory, recordTable, to });
    await expect(runTo('0009_nine')).rejects.toMatchObject({
      code: 'invalid-input',
      hint: expect.stringContaining('0002_two'),
    });
    expect(await runTo('0002_two')).toEqual(['0001_one', '0002_two']);
    expect(await runTo('0002_two')).toEqual([]);
    await expect(runTo('0001_one')).rejects.toMatchObject({ code: 'invalid-input' });
    expect((await migrationStatus(handle.db, { directory, recordTable })).pending).toEqual(['0003_three']);
    expect(await run()).toEqual(['0003_three']);
  });

  it('tells what was applied and when, in the order of application', async () => {
    expect(await migrationHistory(handle.db, { directory, recordTable })).toEqual([]);
    await run();
    await put('0002_two', 'create table two (id int);');
    await run();
    const history = await migrationHistory(handle.db, { directory, recordTable });
    expect(history.map(({ name }) => name)).toEqual(['0001_one', '0003_three', '0002_two']);
    for (const { hash, appliedAt } of history) {
      expect(hash).toMatch(/^[0-9a-f]{64}$/);
      expect(new Date(appliedAt).toISOString()).toBe(appliedAt);
    }
  });

  it('tells services of an older database what to do, and lets them start on one that is up to date', async () => {
    const required = async () =>
      requireMigrated(await migrationStatus(handle.db, { directory, recordTable }), commands);
    await expect(required()).rejects.toMatchObject({ code: 'config-invalid', message: 'The database is empty.' });
    await migrate(handle.db, { directory, recordTable, to: '0001_one' });
    await expect(required()).rejects.toMatchObject({
      code: 'config-invalid',
      message: expect.stringContaining('0001_one'),
      hint: expect.stringContaining('migrate it'),
    });
    await run();
    await required();
  });

  it('applies each file once when several processes start together', async () => {
    await put('0002_two', 'create table two (id int); insert into two values (2);');
    const ways = await Promise.all(Array.from({ length: 5 }, run));
    expect(ways.flat().sort()).toEqual(['0001_one', '0002_two', '0003_three']);
    expect(await handle.db.execute(sql`select * from two`)).toHaveLength(1);
  });

  it('takes longer than a statement may', async () => {
    const impatient = handle.withDeadlines({ statementMs: 300, transactionMs: 300 });
    await put('0002_two', 'create table two (id int); select pg_sleep(0.5);');
    await expect(migrate(impatient, { directory, recordTable })).rejects.toThrow();
    expect(await migrate(handle.withDeadlines(migrationDeadlines), { directory, recordTable })).toContain('0002_two');
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

  it('refuses a database that a newer version made, and still says which it is and which it knows', async () => {
    await run();
    await rm(join(directory, '0003_three.sql'));
    const refusal = { code: 'config-invalid', message: expect.stringContaining('0003_three') };
    await expect(run()).rejects.toMatchObject(refusal);
    const status = await migrationStatus(handle.db, { directory, recordTable });
    const start = (): void => requireMigrated(status, commands);
    expect(start).toThrow(expect.objectContaining({ ...refusal, hint: expect.stringContaining('show it') }));
    expect(status).toMatchObject({
      ...{ current: '0003_three', head: '0001_one', pending: [], unknown: ['0003_three'] },
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

it('keeps how long devices were busy, of which earlier managers kept the average', async () => {
  const handle = await testDatabase();
  onTestFinished(() => handle.close());
  const name = '0024_busy_seconds';
  await handle.db.execute(sql`delete from schema_migrations where name = ${name}`);
  const before = { counted: { cpuSeconds: 3 }, busyDevices: { cuda: 0.5 }, memoryPeakBytes: 7 };
  const none = { counted: {}, busyDevices: {}, memoryPeakBytes: null };
  for (const measured of [before, none]) {
    await handle.db.execute(sql`
      insert into usage_records (id, session_id, session_name, kernel_id, domain_name, project_id, user_id, access_key,
        resource_group, agent_id, slots, began_at, ended_at, measured)
      select gen_random_uuid(), gen_random_uuid(), 's', gen_random_uuid(), 'd', gen_random_uuid(), gen_random_uuid(), 'k',
        'g', 'a', '{}', now() - interval '1 hour', now(), ${JSON.stringify(measured)}::jsonb`);
  }
  expect(await migrate(handle.db, { directory: managerMigrations })).toEqual([name]);
  expect(
    await handle.db.execute(sql`select measured from usage_records order by measured->'memoryPeakBytes' desc`),
  ).toEqual([
    { measured: { counted: { cpuSeconds: 3, cudaSeconds: 1_800 }, memoryPeakBytes: 7 } },
    { measured: { counted: {}, memoryPeakBytes: null } },
  ]);
});
