import { existsSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, deferred } from '@backend.ai/core';
import { makeTempDirectory, migratedTemplate, tempDirectory, testDatabase } from '@backend.ai/testing';
import { eq, sql } from 'drizzle-orm';
import { describe, expect, it, onTestFinished } from 'vitest';
import { domains, managerMigrations, migrate, openPglite } from '../src/index.ts';

describe('the only session', () => {
  it('never lets another statement into a transaction', async () => {
    const { db, close } = await testDatabase();
    onTestFinished(close);
    const order: string[] = [];
    const inside = db.transaction(async (tx) => {
      await tx.insert(domains).values({ name: 'isolated' });
      order.push('first');
      await tx.execute(sql`select pg_sleep(0.05)`);
      await tx.insert(domains).values({ name: 'isolated-too' });
      order.push('second');
    });
    const outside = db
      .select()
      .from(domains)
      .where(eq(domains.name, 'isolated-too'))
      .then((rows) => {
        order.push('outside');
        return rows.length;
      });
    await inside;
    expect(await outside).toBe(1);
    expect(order).toEqual(['first', 'second', 'outside']);
  });

  it('lets a statement wait behind a transaction no longer than its deadline', async () => {
    const { db, close } = await testDatabase({ statementMs: 300, transactionMs: 20_000 });
    onTestFinished(close);
    const afterwards = deferred();
    const holding = db.transaction(() => afterwards.promise);
    const waiting = db.select().from(domains);
    expect(await waiting.catch((error: unknown) => AppError.from(error).code)).toBe('deadline-exceeded');
    afterwards.resolve();
    await holding;
  });
});

describe('the data directory', () => {
  it('keeps its rows from one opening to the next', async () => {
    const dataDir = join(await tempDirectory(), 'db');
    const templateDir = await migratedTemplate();
    const first = await openPglite({ dataDir, templateDir });
    await first.db.insert(domains).values({ name: 'stays' });
    await first.close();
    await first.close();
    const second = await openPglite({ dataDir, templateDir });
    expect(await second.db.select({ name: domains.name }).from(domains)).toEqual([{ name: 'stays' }]);
    await second.close();
  });

  it('is refused while somebody has it open, and free afterwards', async () => {
    const dataDir = join(await tempDirectory(), 'db');
    const templateDir = await migratedTemplate();
    const first = await openPglite({ dataDir, templateDir });
    await expect(openPglite({ dataDir, templateDir })).rejects.toMatchObject({ code: 'data-directory-locked' });
    await first.close();
    await (await openPglite({ dataDir, templateDir })).close();
  });

  it('is made without a template too, and sweeps what an interrupted start left', async () => {
    const parent = await makeTempDirectory();
    const dataDir = join(parent.path, 'db');
    const remains = join(parent.path, 'db.draft-dead');
    await mkdir(remains);
    await writeFile(join(remains, 'half'), '');
    const handle = await openPglite({ dataDir });
    expect(await migrate(handle.db, { directory: managerMigrations })).not.toEqual([]);
    expect(existsSync(remains)).toBe(false);
    await handle.close();
    expect((await readdir(parent.path)).sort()).toEqual(['db', 'db.1.sock']);
    await parent.remove();
  });

  it('is left alone when it holds files of somebody else', async () => {
    const dataDir = join(await tempDirectory(), 'db');
    await mkdir(dataDir);
    await writeFile(join(dataDir, 'thesis.txt'), 'precious');
    await expect(openPglite({ dataDir, templateDir: await migratedTemplate() })).rejects.toThrow();
    expect(existsSync(join(dataDir, 'thesis.txt'))).toBe(true);
  });
});
