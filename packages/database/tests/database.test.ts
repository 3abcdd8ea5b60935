import { inspect } from 'node:util';
import { AppError, deferred, newId, type SessionId } from '@backend.ai/core';
import { createLogger, currentRequestId, runWithRequest } from '@backend.ai/telemetry';
import { createTenant, testDatabase, waitFor } from '@backend.ai/testing';
import { eq, sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  agentResources,
  agents,
  type DatabaseHandle,
  domains,
  isUniqueViolation,
  resourceGroups,
  sessions,
  sqlStateOf,
  sqlStates,
} from '../src/index.ts';

/** What repositories may rely on, on PGlite (project `integration`) and on PostgreSQL (`servers`). */

describe('a database', () => {
  let handle: DatabaseHandle;
  beforeAll(async () => {
    handle = await testDatabase();
  });
  afterAll(() => handle.close());

  it('fails without telling values to logs, and still says which statement failed at which constraint', async () => {
    const { db } = handle;
    const lines: string[] = [];
    const logger = createLogger({ component: 'test', destination: { write: (line) => lines.push(line) } });
    await db.insert(domains).values({ name: 'hunter2' });
    const unreadable = sql`insert into sessions (id, environ) values (${'hunter2 "quoted" hunter2'}, '{}')`;
    const failures: Record<string, () => Promise<unknown>> = {
      '22P02': () => db.execute(unreadable),
      '22P02 in a transaction': () => db.transaction((tx) => tx.execute(unreadable)),
      '22P02 in JSON': () => db.execute(sql`select ${'{"PASSWORD": hunter2}'}::jsonb from sessions`),
      '23505': () => db.insert(domains).values({ name: 'hunter2' }),
      '23502': () => db.execute(sql`insert into domains (name, created_at) values (${'hunter2'}, null)`),
      none: () => db.execute(sql`select ${sql.param({ PASSWORD: 'hunter2' })}`),
    };
    for (const [name, fail] of Object.entries(failures)) {
      const error: unknown = await fail().then(
        () => new Error('It did not fail.'),
        (reason: unknown) => reason,
      );
      logger.error('failed', { error });
      expect(inspect(error, { depth: 10 }), name).not.toContain('hunter2');
      expect(lines.pop(), name).toMatch(/^(?!.*hunter2).*Failed query: (insert|select)/);
      expect(sqlStateOf(error), name).toBe(name === 'none' ? undefined : name.slice(0, 5));
      if (name === '23505') expect(isUniqueViolation(error, 'domains_pkey')).toBe(true);
    }
  });

  it('reads back what was written, moments as dates and amounts as exact texts', async () => {
    const { db } = handle;
    await db.insert(resourceGroups).values({ name: 'default' });
    const heartbeat = new Date('2030-01-02T03:04:05.678Z');
    await db.insert(agents).values({
      id: 'i-one' as never,
      resourceGroup: 'default',
      rpcVersion: 3,
      version: '1',
      architecture: 'x86_64',
      backend: 'fake',
      images: ['python:3', 'it\'s "quoted"'],
      isolation: { nested: { list: [1, null, true] } },
      lastHeartbeat: heartbeat,
      lastEventSeq: 2 ** 40,
    });
    await db
      .insert(agentResources)
      .values({ agentId: 'i-one' as never, slotName: 'mem', capacity: '123456789012345678.125' });
    const [agent] = await db.select().from(agents);
    expect(agent).toMatchObject({
      lastHeartbeat: heartbeat,
      lastEventSeq: 2 ** 40,
      images: ['python:3', 'it\'s "quoted"'],
      isolation: { nested: { list: [1, null, true] } },
      schedulable: true,
      lostAt: null,
    });
    const [resource] = await db.select().from(agentResources);
    expect(resource).toMatchObject({ capacity: '123456789012345678.125000', used: '0.000000' });
  });

  it('tells which constraint refused a row', async () => {
    const { db } = handle;
    await db.insert(domains).values({ name: 'twice' });
    const again = await db
      .insert(domains)
      .values({ name: 'twice' })
      .catch((error: unknown) => error);
    expect(isUniqueViolation(again)).toBe(true);
    expect(isUniqueViolation(again, 'domains_pkey')).toBe(true);
    expect(isUniqueViolation(again, 'users_email_key')).toBe(false);
    const negative = await db
      .update(agentResources)
      .set({ used: '-1' })
      .where(eq(agentResources.slotName, 'mem'))
      .catch((error: unknown) => error);
    expect(sqlStateOf(negative)).toBe(sqlStates.checkViolation);
  });

  it('frees the name of a session when it ends', async () => {
    const { db } = handle;
    const { domain, project, user, keypair } = await createTenant(db);
    const row = () => ({
      id: newId<SessionId>(),
      name: 'mine',
      domainName: domain.name,
      projectId: project.id,
      userId: user.id,
      accessKey: keypair.accessKey,
      image: 'python:3',
      architecture: 'x86_64',
      resourceGroup: 'default',
      statusReason: 'queued',
      requestedSlots: { cpu: '1' },
      requestId: 'req-1',
    });
    const first = row();
    await db.insert(sessions).values(first);
    const refused = await db
      .insert(sessions)
      .values(row())
      .catch((error: unknown) => error);
    expect(isUniqueViolation(refused, 'sessions_live_name_key')).toBe(true);
    await db.update(sessions).set({ status: 'TERMINATED' }).where(eq(sessions.id, first.id));
    await db.insert(sessions).values(row());
  });

  it('rolls back what a failed transaction did, and a failed savepoint alone', async () => {
    const { db } = handle;
    const failed = db.transaction(async (tx) => {
      await tx.insert(domains).values({ name: 'gone' });
      throw new Error('no');
    });
    await expect(failed).rejects.toThrow('no');
    await db.transaction(async (tx) => {
      await tx.insert(domains).values({ name: 'kept' });
      const inner = tx.transaction(async (nested) => {
        await nested.insert(domains).values({ name: 'kept' });
      });
      await expect(inner).rejects.toSatisfy((error) => isUniqueViolation(error));
    });
    const names = (await db.select().from(domains)).map((row) => row.name);
    expect(names).toContain('kept');
    expect(names).not.toContain('gone');
  });

  it('fails one of many concurrent statements without disturbing the others', async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 50 }, (_, index) => handle.db.execute(sql`select 10 / ${index % 7} ::int as quotient`)),
    );
    results.forEach((result, index) => {
      expect(result.status).toBe(index % 7 === 0 ? 'rejected' : 'fulfilled');
    });
  });

  it('refuses a parameter that cannot be written, and goes on', async () => {
    const odd = handle.db
      .execute(sql`select ${{ an: 'object' }}`)
      .catch((error: unknown) => (error as Error).cause ?? error);
    expect(await odd).toMatchObject({ code: 'internal' });
    expect(await handle.db.execute(sql`select 1 as one`)).toHaveLength(1);
  });

  it('keeps the request id across statements', async () => {
    await runWithRequest({ requestId: 'req-db' as never }, async () => {
      await handle.db.select().from(domains);
      expect(currentRequestId()).toBe('req-db');
      await handle.db.transaction(async (tx) => {
        await tx.select().from(domains);
        expect(currentRequestId()).toBe('req-db');
      });
    });
  });

  it('leaves the event loop free while a statement runs', async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    await handle.db.execute(sql`select count(*) from generate_series(1, 2000000)`);
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(3);
  });
});

describe('deadlines', () => {
  it('end a statement and a forgotten transaction, in which nothing more can be done', async () => {
    // PGlite sleeps on after a deadline: the transaction begins late, and still has to have time for its first statement.
    const handle = await testDatabase({ statementMs: 1_000, transactionMs: 5_000 });
    const { db } = handle;
    const afterwards = deferred();
    const used = deferred<unknown>();
    try {
      expect(await codeOf(db.execute(sql`select pg_sleep(2)`))).toBe('deadline-exceeded');
      const forgotten = codeOf(
        db.transaction(async (tx) => {
          await tx.insert(domains).values({ name: 'never' });
          await afterwards.promise;
          used.resolve(codeOf(tx.insert(domains).values({ name: 'late' })));
        }),
      );
      expect(await forgotten).toBe('deadline-exceeded');
      afterwards.resolve();
      expect(await used.promise).toBe('internal');
      // A busy machine may need more than one try within so short a deadline.
      expect(await waitFor(() => db.select().from(domains))).toEqual([]);
    } finally {
      await handle.close();
    }
  });
});

const codeOf = (promise: PromiseLike<unknown>): Promise<unknown> =>
  Promise.resolve(promise).then(
    () => 'fulfilled',
    (error: unknown) => AppError.from(error).code,
  );
