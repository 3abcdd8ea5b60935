import { createServer } from 'node:net';
import { inspect } from 'node:util';
import { AppError, deferred } from '@backend.ai/core';
import { postgresDatabase, tempDirectory, testDatabase, waitFor } from '@backend.ai/testing';
import { eq, sql } from 'drizzle-orm';
import { describe, expect, inject, it, onTestFinished } from 'vitest';
import { freePort, startPostgres } from '../../../scripts/dev-servers/index.ts';
import {
  type Database,
  type DatabaseHandle,
  domains,
  ensureDatabase,
  openPostgres,
  repeatedTransaction,
  sqlStateOf,
  sqlStates,
  withDatabase,
} from '../src/index.ts';

const { postgresUrl } = inject('servers');

/** Everything that a log or a person could see of what is thrown. */
async function failureOf(work: PromiseLike<unknown>): Promise<{ error: AppError; text: string }> {
  const thrown = await work.then(
    () => expect.fail('it should have failed'),
    (error: unknown) => error,
  );
  return { error: AppError.from(thrown), text: inspect(thrown, { depth: 10, showHidden: true }) };
}

describe('opening PostgreSQL', () => {
  const { port, password } = new URL(postgresUrl);
  const open = (url: string) => openPostgres({ url, showConfig: './backend.ai coordinator config show' });
  const runnable = / runuser -u postgres -- psql -p \d+ -c 'create database absent owner postgres'$/;

  it.each([
    [
      'a wrong password',
      `postgres://postgres:hunter2@127.0.0.1:${port}/postgres`,
      'config-invalid',
      /"postgres"/,
      /database\.password-file.*coordinator config show$/,
    ],
    [
      'an unknown user',
      `postgres://nobody:hunter2@127.0.0.1:${port}/postgres`,
      'config-invalid',
      /"nobody"/,
      /database\.user.*coordinator config show$/,
    ],
    ['a missing database', withDatabase(postgresUrl, 'absent'), 'config-invalid', /"absent"/, runnable],
    ['another kind of url', `mysql://a:hunter2@127.0.0.1:${port}/b`, 'config-invalid', /url/, /postgres:\/\/user/],
    ['half a url', 'postgres://a:hunter2@', 'config-invalid', /url/, /postgres:\/\/user/],
  ])('names %s in one sentence with a next step, and no secret', async (_what, url, code, message, next) => {
    const { error, text } = await failureOf(open(url));
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(error.message).toMatch(/^[^\n]+\.$/);
    expect(error.hint).toMatch(next);
    expect(text).not.toContain('hunter2');
    expect(text).not.toContain(password);
  });

  it('names a server that is not there', async () => {
    const absent = await freePort();
    const { error, text } = await failureOf(open(`postgres://a:hunter2@127.0.0.1:${absent}/b`));
    expect(error).toMatchObject({
      code: 'server-unreachable',
      message: expect.stringContaining(`127.0.0.1:${absent}`),
    });
    expect(text).not.toContain('hunter2');
  });

  it.each([
    ['something else', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['a proxy without a server behind it', ''],
  ])('names a server that is %s, which it asks once', async (_what, greeting) => {
    let asked = 0;
    const server = createServer((socket) => {
      asked += 1;
      socket.resume().end(greeting);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const { port: other } = server.address() as { port: number };
    await expect(open(`postgres://a:b@127.0.0.1:${other}/c`)).rejects.toMatchObject({ code: 'server-unreachable' });
    expect(asked).toBe(1);
  });
});

describe('statements that meet', () => {
  it('are all carried out, each once, when they change the same row or lock rows in opposite orders', async () => {
    const handle = await testDatabase();
    onTestFinished(handle.close);
    const { db } = handle;
    await db.execute(sql`create table counters (name text primary key, value int not null)`);
    await db.execute(sql`insert into counters values ('a', 0), ('b', 0)`);
    const bump = (order: 'asc' | 'desc') =>
      db.execute(sql`
        update counters c set value = c.value + 1
        from (select name from counters order by name ${sql.raw(order)} for update) locked where c.name = locked.name`);
    await Promise.all(Array.from({ length: 100 }, (_, index) => bump(index % 2 === 0 ? 'asc' : 'desc')));
    expect([...(await db.execute(sql`select value from counters`))]).toEqual([{ value: 100 }, { value: 100 }]);
  });

  it('of transactions are carried out once each, too, when one was undone for a deadlock', async () => {
    const handle = await testDatabase();
    onTestFinished(handle.close);
    const { db } = handle;
    await db.execute(sql`create table counters (name text primary key, value int not null)`);
    await db.execute(sql`insert into counters values ('a', 0), ('b', 0)`);
    const locked = { a: deferred(), b: deferred() };
    let attempts = 0;
    const bump = (first: 'a' | 'b', second: 'a' | 'b') =>
      repeatedTransaction(db, async (tx) => {
        attempts += 1;
        const add = (name: string) => tx.execute(sql`update counters set value = value + 1 where name = ${name}`);
        await add(first);
        locked[first].resolve();
        await locked[second].promise;
        await add(second);
      });
    await Promise.all([bump('a', 'b'), bump('b', 'a')]);
    expect(attempts).toBe(3);
    expect([...(await db.execute(sql`select value from counters`))]).toEqual([{ value: 2 }, { value: 2 }]);
  });

  it('of a transaction that lost at its commit are carried out again, and not for ever', async () => {
    const handle = await testDatabase();
    onTestFinished(handle.close);
    const { db } = handle;
    // A sequence is not rolled back: it counts what was undone.
    await db.execute(sql`create sequence commits`);
    await db.execute(sql`create table notes (text text, fails int not null)`);
    await db.execute(sql`
      create function refuse() returns trigger language plpgsql as $$
      begin
        if nextval('commits') <= new.fails then raise exception 'lost' using errcode = '40001'; end if;
        return null;
      end $$`);
    await db.execute(sql`
      create constraint trigger at_commit after insert on notes deferrable initially deferred
      for each row execute function refuse()`);
    const note = (text: string, fails: number) =>
      repeatedTransaction(db, (tx) => tx.execute(sql`insert into notes values (${text}, ${fails}::int)`));
    await note('twice', 2);
    expect([...(await db.execute(sql`select text from notes`))]).toEqual([{ text: 'twice' }]);
    expect(sqlStateOf(await note('never', 1_000).catch((error: unknown) => error))).toBe(
      sqlStates.serializationFailure,
    );
    expect([...(await db.execute(sql`select text from notes`))]).toEqual([{ text: 'twice' }]);
  });

  it('see one state of the database each', async () => {
    const { db } = await shared();
    const [row] = await db.execute(sql`select current_setting('transaction_isolation') as level`);
    expect(row?.level).toBe('repeatable read');
    const inside = await db.transaction((tx) =>
      tx.execute(sql`select current_setting('transaction_isolation') as level`),
    );
    expect(inside[0]?.level).toBe('read committed');
  });

  it('are not compiled before they run, however large the tables are', async () => {
    const { db } = await shared();
    expect([...(await db.execute(sql`show jit`))]).toEqual([{ jit: 'off' }]);
  });

  it('end at the server, too, when nobody waits for them any more', async () => {
    const database = await postgresDatabase(postgresUrl);
    const handle = await openPostgres({ url: database.url, maxConnections: 1, deadlines: { statementMs: 2_000 } });
    onTestFinished(async () => {
      await handle.close();
      await database.remove();
    });
    const { error } = await failureOf(handle.db.execute(sql`select pg_sleep(60)`));
    expect(error.code).toBe('deadline-exceeded');
    // The only connection is free again.
    await waitFor(() => handle.db.execute(sql`select 1`));
  });
});

it('gives work that takes its time other deadlines, at the server too', async () => {
  const handle = await testDatabase({ statementMs: 1_000 });
  onTestFinished(handle.close);
  await handle.withDeadlines({ statementMs: 10_000, transactionMs: 10_000 }).execute(sql`select pg_sleep(1.5)`);
  const { error } = await failureOf(handle.db.execute(sql`select pg_sleep(1.5)`));
  expect(error.code).toBe('deadline-exceeded');
});

describe('a server that goes away', () => {
  async function ownServer(): Promise<{ server: Awaited<ReturnType<typeof startPostgres>>; handle: DatabaseHandle }> {
    const server = await startPostgres({ directory: await tempDirectory(), password: 'secret', durable: false });
    onTestFinished(() => server.stop());
    await ensureDatabase(server.url, { name: 'mine' });
    const handle = await openPostgres({ url: withDatabase(server.url, 'mine') });
    onTestFinished(handle.close);
    await handle.db.execute(sql`create table kept (value int)`);
    return { server, handle };
  }

  it.each(['restart', 'kill'] as const)(
    'is found again by itself after a %s, with what was acknowledged',
    async (how) => {
      const { server, handle } = await ownServer();
      const { db } = handle;
      await db.execute(sql`insert into kept values (1)`);
      const running = failureOf(db.execute(sql`select pg_sleep(60)`));
      await waitFor(
        async () =>
          (await db.execute(sql`select 1 from pg_stat_activity where query like '%pg_sleep(60)%'`)).length > 1,
      );
      if (how === 'restart') await server.stop();
      else await server.kill();
      expect((await running).error.code).toBe('connection-lost');
      const { error } = await failureOf(db.execute(sql`select 1`));
      expect(error.code).toBe('server-unreachable');
      await server.start();
      const rows = await waitFor(() => db.execute(sql`select value from kept`));
      expect(rows).toEqual([{ value: 1 }]);
      await Promise.all(Array.from({ length: 20 }, () => db.execute(sql`insert into kept values (2)`)));
    },
  );

  it('keeps callers waiting no longer than their deadline while it is paused', async () => {
    const { server } = await ownServer();
    const handle = await openPostgres({ url: withDatabase(server.url, 'mine'), deadlines: { statementMs: 2_000 } });
    onTestFinished(handle.close);
    await server.pause();
    const { error } = await failureOf(handle.db.execute(sql`select 1`));
    expect(error.code).toBe('deadline-exceeded');
    await server.resume();
    await waitFor(() => handle.db.execute(sql`select 1`));
  });
});

async function shared(): Promise<DatabaseHandle> {
  const handle = await testDatabase();
  onTestFinished(handle.close);
  return handle;
}

it('keeps rows of a domain for every connection of the pool', async () => {
  const { db } = await shared();
  await Promise.all(Array.from({ length: 30 }, (_, index) => db.insert(domains).values({ name: `d-${index}` })));
  expect(await db.select().from(domains)).toHaveLength(30);
  expect(await db.select().from(domains).where(eq(domains.name, 'd-7'))).toHaveLength(1);
});

describe('plans of statements that come again and again', () => {
  interface Plans {
    readonly statement: string;
    readonly custom: number;
    readonly generic: number;
  }
  async function plansOf(db: Database, mark: string): Promise<Plans[]> {
    const rows = await db.execute<{ statement: string; custom: string; generic: string }>(
      sql`select statement, custom_plans as custom, generic_plans as generic from pg_prepared_statements
          where position(${mark} in statement) > 0 and statement not like '%pg_prepared_statements%'`,
    );
    return rows.map(({ statement, custom, generic }) => ({
      statement,
      ...{ custom: Number(custom), generic: Number(generic) },
    }));
  }

  it('are made with the values of each call, and of steady statements once per connection', async () => {
    const handle = await openPostgres({ url: postgresUrl, maxConnections: 1 });
    onTestFinished(handle.close);
    for (const db of [handle.db, handle.steady]) {
      for (let nth = 0; nth < 4; nth++) await db.execute(sql`select ${nth}::int as of_values`);
    }
    expect(await plansOf(handle.db, 'of_values')).toMatchObject([{ custom: 3, generic: 0 }]);
    expect(await plansOf(handle.steady, 'of_values')).toMatchObject([{ custom: 0, generic: 3 }]);
  });

  it('of steady statements find rows by an index, also in a table that was empty when they were made', async () => {
    const { db } = await shared();
    const [database] = await db.execute<{ name: string }>(sql`select current_database() as name`);
    const handle = await openPostgres({ url: withDatabase(postgresUrl, database!.name), maxConnections: 1 });
    onTestFinished(handle.close);
    const { steady } = handle;
    await steady.execute(sql.raw('analyze domains'));
    await steady.execute(sql.raw('prepare find (text) as select description from domains where name = $1'));
    await steady.execute(sql.raw("execute find ('d-7')"));
    await steady.execute(sql.raw("insert into domains (name) select 'd-' || n from generate_series(1, 10000) as n"));
    const plan = JSON.stringify(await steady.execute(sql.raw("explain (costs off) execute find ('d-7')")));
    expect(plan).toContain('Index Scan');
    expect(plan).toContain('$1');
  });

  it('are kept for statements without parameters, too, unless there are several in one text', async () => {
    const handle = await openPostgres({ url: postgresUrl, maxConnections: 1 });
    onTestFinished(handle.close);
    for (let nth = 0; nth < 3; nth++) {
      await handle.db.execute(sql.raw('select 1 as no_values'));
      await handle.db.execute(sql.raw('select 1 as no_values; select 2'));
    }
    expect(await plansOf(handle.db, 'no_values')).toMatchObject([{ statement: 'select 1 as no_values' }]);
  });
});
