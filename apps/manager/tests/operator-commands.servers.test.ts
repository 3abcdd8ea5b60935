import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newId } from '@backend.ai/core';
import { managerMigrations, migrate, migrationDeadlines, openPostgres } from '@backend.ai/database';
import { postgresDatabase, tempDirectory } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { beforeEach, expect, inject, it, onTestFinished } from 'vitest';
import { type Outcome, runManagerCommand } from '../src/commands/commands.test.kit.ts';

/** Commands of operators on a database of their own, with a configuration file as on a machine. */
const servers = inject('servers');
let folder: string;
let url: string;

beforeEach(async () => {
  folder = await tempDirectory();
  const database = await postgresDatabase(servers.postgresUrl);
  onTestFinished(database.remove);
  url = database.url;
  await withDatabase((db) => migrate(db, { directory: managerMigrations }));
  await machine('first');
});

async function withDatabase<T>(work: (db: Awaited<ReturnType<typeof openPostgres>>['db']) => Promise<T>): Promise<T> {
  const { db, close } = await openPostgres({ url, deadlines: migrationDeadlines });
  return await work(db).finally(close);
}

async function machine(name: string): Promise<void> {
  await mkdir(join(folder, name));
  const toml = [
    `[manager]\nid = "m-${name}"\ndata-dir = "${join(folder, name)}"`,
    `[database]\nurl = "${url}"`,
    `[redis]\nurl = "${servers.redisUrl}"`,
    `[etcd]\nendpoints = ["${servers.etcdUrl}"]\nnamespace = "/${newId()}"`,
  ];
  await writeFile(join(folder, `${name}.toml`), toml.join('\n'), { mode: 0o600 });
}

const mgr = (name: string, ...args: string[]): Promise<Outcome> =>
  runManagerCommand(folder, ...args, '--config', `${name}.toml`);

it('health tells a second manager that it lacks the installation key, which keeps it from starting', async () => {
  const fresh = await mgr('first', 'health');
  expect(fresh).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('installation.key, made at the first start'),
  });
  expect((await mgr('first', 'fixture', 'populate', 'default')).code).toBe(0);
  expect((await mgr('first', 'health')).stdout).toContain('All 5 work.');
  await machine('second');
  const { code, stdout } = await mgr('second', 'health');
  expect(code).toBe(1);
  expect(stdout).toMatch(
    /✗ Installation key .*second\/keys\/installation\.key is not there\.\n +Copy that of a manager/,
  );
  expect(stdout).toContain('1 of 5 does not work: Installation key.');
  await mkdir(join(folder, 'second/keys'), { recursive: true });
  await copyFile(join(folder, 'first/keys/installation.key'), join(folder, 'second/keys/installation.key'));
  expect((await mgr('second', 'health')).code).toBe(0);
});

it('a database of a newer version is shown with what it has and what this program knows', async () => {
  await withDatabase((db) => db.execute(sql`insert into schema_migrations (name, hash) values ('9999_later', 'x')`));
  const { code, stdout, stderr } = await mgr('first', 'dbschema', 'show');
  expect(code).toBe(1);
  expect(stdout).toMatch(/^Current +9999_later$/m);
  expect(stdout).toMatch(/^Head +\d{4}_(?!later)/m);
  expect(stderr).toContain('The database has the migration 9999_later, which this version does not know.');
  const json = await mgr('first', 'dbschema', 'show', '--json');
  expect(JSON.parse(json.stdout)).toMatchObject({ current: '9999_later', unknown: ['9999_later'] });
  const { stdout: health } = await mgr('first', 'health');
  expect(health).toMatch(/✗ Schema .*9999_later.*\n .*mgr dbschema show$/m);
});

it('what was removed is told by kind, and from before when it was', async () => {
  const cleared = await mgr('first', 'clear-history', '--dry-run', '--retention', '26w');
  expect(cleared.stdout).toMatch(
    /^0 records from before \d{4}-\S+Z would be removed: 0 changes of ended sessions, 0 of use, 0 of the audit log\.\n$/,
  );
  const vacuumed = await mgr('first', 'vacuum-sessions');
  expect(vacuumed.stdout).toMatch(/^0 sessions that ended before \d{4}-\S+Z were removed, with their logs and history/);
});

it('the installation key is replaced in three steps, each of which tells the next one', async () => {
  const early = await mgr('first', 'installation-key', 'add');
  expect([early.code, early.stderr]).toEqual([1, expect.stringMatching(/no key yet.*\n.*mgr start-server/)]);
  await mgr('first', 'fixture', 'populate', 'default');
  const added = await mgr('first', 'installation-key', 'add');
  expect(added.stdout).toMatch(
    /^The key [0-9a-f]{12} was added to .*first\/keys\/installation\.key\nThen: .* reencrypt\n$/,
  );
  expect((await mgr('first', 'installation-key', 'add')).stdout).toContain('is already waiting in');
  const moved = JSON.parse((await mgr('first', 'installation-key', 'reencrypt', '--json')).stdout);
  expect(moved).toMatchObject({ id: expect.any(String), moved: 2 });
  const shown = await mgr('first', 'installation-key', 'show');
  expect(shown.stdout).toMatch(/^[0-9a-f]{12} +old +0 +yes/m);
  expect(shown.stdout).toMatch(new RegExp(`^${moved.id} +current +\\d{4}-\\S+Z +2 +yes`, 'm'));
  const removed = await mgr('first', 'installation-key', 'remove-old');
  expect(removed.stdout).toMatch(/^Removed from .*first\/keys\/installation\.key: [0-9a-f]{12}\n$/);
  const { keys } = JSON.parse((await mgr('first', 'installation-key', 'show', '--json')).stdout);
  expect(keys).toEqual([expect.objectContaining({ id: moved.id, state: 'current' })]);
  expect((await mgr('first', 'health')).code).toBe(0);
  const rows = await withDatabase((db) =>
    db.execute<{ action: string; request: string }>(sql`
      select action, request_id as request from audit_log where target_kind = 'installation-key' and outcome = 'done'`),
  );
  expect(new Set(rows.map(({ request }) => request))).toEqual(new Set(['r-of-the-test']));
  expect(rows.map(({ action }) => action)).toEqual(expect.arrayContaining(['operator:reencrypt-secrets']));
});
