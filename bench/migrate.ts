import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Database,
  type DatabaseHandle,
  dropDatabase,
  ensureDatabase,
  managerMigrations,
  migrate,
  migrationDeadlines,
  openPglite,
  openPostgres,
  withDatabase,
} from '@backend.ai/database';
import { findPrograms, startPostgres } from '../scripts/dev-servers/index.ts';
import { type Bench, percentile } from './bench.ts';

const files = readdirSync(managerMigrations)
  .filter((name) => name.endsWith('.sql'))
  .sort();
const names = files.map((name) => name.slice(0, -'.sql'.length));
const previous = names.at(-2);

const directory = managerMigrations;
const patient = (handle: DatabaseHandle): Database => handle.withDeadlines(migrationDeadlines);

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

/** Ended sessions as they are after months: a kernel, allocations that were given back, and a history each. */
async function fill(db: Database, sessions: number): Promise<void> {
  const rows = `generate_series(1, ${sessions}) as n`;
  const id = (kind: number): string => `('00000000-0000-7000-800${kind}-' || lpad(to_hex(n), 12, '0'))::uuid`;
  await db.execute(`
    insert into sessions (id, name, domain_name, project_id, user_id, access_key, image, architecture, resource_group,
      status, status_reason, requested_slots, request_id)
    select ${id(1)}, 's-' || n, 'default', ${id(0)}, ${id(0)}, 'AKIA' || n % 100, 'python:3', 'x86_64', 'default',
      'TERMINATED', 'user-requested', '{"cpu": "1", "mem": "1073741824"}', 'bench' from ${rows}`);
  await db.execute(`
    insert into kernels (id, session_id, agent_id, image, status, status_reason, requested_slots, request_id)
    select ${id(2)}, ${id(1)}, 'i-' || n % 10, 'python:3', 'TERMINATED', 'user-requested', '{"cpu": "1"}', 'bench'
    from ${rows}`);
  await db.execute(`
    insert into resource_allocations (kernel_id, slot_name, agent_id, amount, free_at, request_id)
    select ${id(2)}, slot, 'i-' || n % 10, 1, now(), 'bench' from ${rows} cross join (values ('cpu'), ('mem')) s (slot)`);
  await db.execute(`
    insert into session_history (id, session_id, to_status, reason, request_id)
    select gen_random_uuid(), ${id(1)}, status, 'progress', 'bench'
    from ${rows} cross join (values ('PENDING'), ('SCHEDULED'), ('RUNNING'), ('TERMINATED')) s (status)`);
  await db.execute('vacuum analyze');
}

export const bench: Bench = {
  name: 'migrate',
  async run({ quick }) {
    const binaries = findPrograms().postgres;
    if (!binaries) throw new Error('PostgreSQL is not installed: install the package postgresql.');
    const rounds = quick ? 2 : 9;
    const sessions = quick ? 10_000 : 100_000;
    const folder = mkdtempSync(join(tmpdir(), 'bench-migrate-'));
    const server = await startPostgres({ directory: join(folder, 'postgres'), password: 'bench' });
    const samples = {
      psql: [] as number[],
      empty: [] as number[],
      nothing: [] as number[],
      embedded: [] as number[],
      previous: [] as number[],
      previousPsql: [] as number[],
    };

    const onDatabase = async (work: (url: string) => Promise<void>): Promise<void> => {
      await ensureDatabase(server.url, { name: 'bench' });
      await work(withDatabase(server.url, 'bench')).finally(() => dropDatabase(server.url, 'bench'));
    };
    const onHandle = (work: (db: Database) => Promise<void>): Promise<void> =>
      onDatabase(async (url) => {
        const handle = await openPostgres({ url });
        await work(patient(handle)).finally(handle.close);
      });
    /** The same files by PostgreSQL's own client, each in a transaction: the floor under ours. */
    const psql = (url: string, of: readonly string[]): void => {
      const each = of.flatMap((name) => ['--file', join(directory, name)]);
      const options = ['--no-psqlrc', '--quiet', '--set', 'ON_ERROR_STOP=1', '--single-transaction'];
      execFileSync(join(binaries, 'psql'), [url, ...options, ...each], { stdio: ['ignore', 'ignore', 'inherit'] });
    };

    try {
      for (let round = 0; round < rounds; round++) {
        await onDatabase(async (url) => {
          samples.psql.push(await timed(async () => psql(url, files)));
        });
        await onHandle(async (db) => {
          samples.empty.push(await timed(() => migrate(db, { directory })));
          samples.nothing.push(await timed(() => migrate(db, { directory })));
        });
        const embedded = await openPglite({ dataDir: join(folder, `pglite-${round}`) });
        samples.embedded.push(await timed(() => migrate(patient(embedded), { directory })));
        await embedded.close();
      }
      for (let round = 0; previous !== undefined && round < (quick ? 1 : 3); round++) {
        await onDatabase(async (url) => {
          const handle = await openPostgres({ url });
          const db = patient(handle);
          try {
            await migrate(db, { directory, to: previous });
            await fill(db, sessions);
            samples.previous.push(await timed(() => migrate(db, { directory })));
          } finally {
            await handle.close();
          }
        });
        await onDatabase(async (url) => {
          const handle = await openPostgres({ url });
          await migrate(patient(handle), { directory, to: previous });
          await fill(patient(handle), sessions);
          await handle.close();
          samples.previousPsql.push(await timed(async () => psql(url, files.slice(-1))));
        });
      }
    } finally {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    }

    const median = (values: readonly number[]): number => percentile(values, 0.5);
    const row = (name: string, values: readonly number[], floor?: readonly number[]): Array<string | number> => [
      name,
      median(values),
      Math.max(...values),
      floor ? median(values) / median(floor) : '',
    ];
    const target = (name: string, value: number, limit: number) => ({
      name,
      value,
      limit,
      unit: 'ms',
      ok: value <= limit,
    });
    const upgraded = `${sessions} sessions, ${previous} to ${names.at(-1)}`;
    return {
      title: 'Migrations',
      columns: ['what', 'median ms', 'worst ms', '× psql'],
      rows: [
        row('psql, empty database', samples.psql),
        row('PostgreSQL, empty database to head', samples.empty, samples.psql),
        row('PostgreSQL, nothing to do', samples.nothing, samples.psql),
        row('PGlite, empty database to head', samples.embedded, samples.psql),
        ...(previous === undefined
          ? []
          : [
              row(`psql, ${upgraded}`, samples.previousPsql),
              row(`PostgreSQL, ${upgraded}`, samples.previous, samples.previousPsql),
            ]),
      ],
      targets: [
        target('empty database to head', median(samples.empty), 2_000),
        target('second start finds nothing to do', median(samples.nothing), 50),
        ...(previous === undefined ? [] : [target(upgraded, median(samples.previous), 5_000)]),
      ],
    };
  },
};
