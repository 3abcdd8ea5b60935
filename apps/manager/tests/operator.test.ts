import { join } from 'node:path';
import { EmbeddedConfigStore } from '@backend.ai/coordination';
import { newId, type RequestId } from '@backend.ai/core';
import { parseSnapshot } from '@backend.ai/scheduler';
import { runWithRequest, silentLogger } from '@backend.ai/telemetry';
import { makeTempDirectory, waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { managerHandlers, openInstallation, operatorHandlers } from '../src/index.ts';
import { createOperator, type Operator, type OperatorOptions, operatorMethods } from '../src/operator.ts';
import { recordedMethods } from '../src/operator-audit.ts';
import { fixtureSchema } from '../src/services/fixtures/fixture.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let operator: Operator;
let options: OperatorOptions;
const dayMs = 86_400_000;

beforeAll(async () => {
  world = await createWorld();
  const { db } = world.database;
  await world.addAgent('i-one', { slots: { cpu: '64', mem: String(64 * 1024 ** 3) } });
  const configStore = new EmbeddedConfigStore(db, silentLogger);
  const { fixtures, installationKeys } = openInstallation({
    ...{ database: db, logger: silentLogger },
    installationKeyFile: world.installationKeyFile,
    adminEmail: 'admin@backend.ai.local',
  });
  options = {
    database: world.database,
    configStore,
    liveValues: world.liveValues(),
    peers: world.manager.services.peers,
    fixtures,
    installationKeys,
    keyFiles: {},
    version: '1',
    logger: silentLogger,
  };
  operator = createOperator(options);
});
afterAll(() => world.close());

const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);

/** A session that ended, and another one that lives, both as if they had been made `days` ago. */
async function aged(days: number): Promise<{ ended: string; alive: string }> {
  const [ended, alive] = [await world.create(), await world.create()];
  for (const { id } of [ended, alive]) await world.until(id, 'RUNNING');
  await world.manager.services.api.session.destroy({ session: ended.id, forced: false }, world.ctx());
  await world.until(ended.id, 'TERMINATED');
  for (const { id } of [ended, alive]) {
    const then = sql`now() - ${days}::int * interval '1 day'`;
    const { db } = world.database;
    await db.execute(sql`update sessions set created_at = ${then}, status_changed_at = ${then},
      terminated_at = case when terminated_at is null then null else ${then} end where id = ${id}::uuid`);
    await db.execute(sql`update session_history set at = ${then} where session_id = ${id}::uuid`);
  }
  return { ended: ended.id, alive: alive.id };
}

async function rows(table: 'sessions' | 'session_history' | 'kernels', session: string): Promise<number> {
  const column = sql.raw(table === 'sessions' ? 'id' : 'session_id');
  const [row] = await world.database.db.execute<{ count: number }>(
    sql`select count(*)::int as count from ${sql.raw(table)} where ${column} = ${session}::uuid`,
  );
  return row?.count ?? 0;
}

describe('an operator', () => {
  beforeEach(async () => {
    await operator.vacuumSessions({ olderThanMs: 0, dryRun: false });
  });

  it('clears the history of sessions that ended long ago, and keeps that of the living', async () => {
    const { ended, alive } = await aged(400);
    const recent = await aged(10);
    const retention = { olderThanMs: 365 * dayMs, dryRun: true };
    const before = await rows('session_history', ended);
    expect(before).toBeGreaterThan(3);
    expect(await operator.clearHistory(retention)).toEqual({
      ...{ count: before, dryRun: true, kinds: { history: before, usage: 0, audit: 0 } },
    });
    expect(await rows('session_history', ended)).toBe(before);
    expect(await operator.clearHistory({ ...retention, dryRun: false })).toMatchObject({
      count: before,
      dryRun: false,
    });
    expect(await rows('session_history', ended)).toBe(0);
    expect(await rows('sessions', ended)).toBe(1);
    expect(await rows('session_history', alive)).toBeGreaterThan(3);
    expect(await rows('session_history', recent.ended)).toBeGreaterThan(3);
    expect(await operator.clearHistory({ ...retention, dryRun: false })).toMatchObject({ count: 0, dryRun: false });
  });

  it('removes sessions that ended long ago with all that is kept of them, and no living one', async () => {
    const { ended, alive } = await aged(8);
    const recent = await aged(1);
    const retention = { olderThanMs: 7 * dayMs, dryRun: true };
    expect(await operator.vacuumSessions(retention)).toEqual({ count: 1, kinds: { sessions: 1 }, dryRun: true });
    expect(await rows('sessions', ended)).toBe(1);
    expect(await operator.vacuumSessions({ ...retention, dryRun: false })).toMatchObject({ count: 1, dryRun: false });
    for (const table of ['sessions', 'kernels', 'session_history'] as const) expect(await rows(table, ended)).toBe(0);
    expect(await rows('sessions', alive)).toBe(1);
    expect(await rows('sessions', recent.ended)).toBe(1);
    expect(await operator.verify()).toEqual([]);
  });

  it('keeps a session that ended as long as something of it is still in the books', async () => {
    const { ended } = await aged(8);
    const { db } = world.database;
    await db.execute(sql`update resource_allocations set free_at = null
      where kernel_id in (select id from kernels where session_id = ${ended}::uuid)`);
    expect(await operator.vacuumSessions({ olderThanMs: dayMs, dryRun: false })).toMatchObject({ count: 0 });
    expect((await operator.verify()).map(({ kind }) => kind)).toContain('open-without-kernel');
    await db.execute(sql`update resource_allocations set free_at = now()
      where kernel_id in (select id from kernels where session_id = ${ended}::uuid)`);
    expect(await operator.verify()).toEqual([]);
  });

  it('lets peers join and revokes them', async () => {
    const { token } = await inRequest(() => operator.createPeerToken({ kind: 'storage-proxy' }));
    const peer = { kind: 'storage-proxy', id: 's-1', publicKey: 'x'.repeat(43) } as const;
    await inRequest(() => world.manager.services.peers.directory.join!(token, peer));
    expect(await operator.listPeers()).toContainEqual(expect.objectContaining({ id: 's-1', revokedAt: null }));
    await operator.revokePeer({ id: 's-1' });
    expect(await operator.listPeers()).toContainEqual(
      expect.objectContaining({ id: 's-1', revokedAt: expect.any(String) }),
    );
  });

  it('reads and changes settings, and says which one is not there', async () => {
    expect(await operator.putSetting({ key: 'volumes/default', value: 'local' })).toMatchObject({ value: 'local' });
    await operator.putSetting({ key: 'other', value: '1' });
    expect(await operator.getSetting({ key: 'volumes/default' })).toMatchObject({ value: 'local' });
    expect((await operator.listSettings({ prefix: 'volumes/' })).map(({ key }) => key)).toEqual(['volumes/default']);
    await operator.deleteSetting({ key: 'volumes/default' });
    const absent = { code: 'object-not-found', message: expect.stringContaining('volumes/default') };
    await expect(operator.getSetting({ key: 'volumes/default' })).rejects.toMatchObject(absent);
    await expect(operator.deleteSetting({ key: 'volumes/default' })).rejects.toMatchObject(absent);
  });

  describe('leaves a row in the audit log', () => {
    const fixture = fixtureSchema.parse({ domains: ['audited'] });
    /** Each with what those before it made. */
    const changes: { readonly [Method in (typeof recordedMethods)[number]]: (now: Operator) => Promise<unknown> } = {
      clearHistory: (now) => now.clearHistory({ olderThanMs: 0, dryRun: false }),
      vacuumSessions: (now) => now.vacuumSessions({ olderThanMs: dayMs, dryRun: false }),
      createPeerToken: (now) => now.createPeerToken({ kind: 'agent', ttlMs: 60_000 }),
      revokePeer: async (now) => {
        const { token } = await now.createPeerToken({ kind: 'storage-proxy' });
        const peer = { kind: 'storage-proxy', id: 's-2', publicKey: 'y'.repeat(43) } as const;
        await world.manager.services.peers.directory.join!(token, peer);
        await now.revokePeer({ id: 's-2' });
      },
      putSetting: (now) => now.putSetting({ key: 'audited/password', value: 'hush' }),
      deleteSetting: (now) => now.deleteSetting({ key: 'audited/password' }),
      populateFixture: (now) => now.populateFixture({ fixture }),
      addInstallationKey: (now) => now.addInstallationKey(),
      reencryptSecrets: (now) => now.reencryptSecrets(),
      removeOldInstallationKeys: (now) => now.removeOldInstallationKeys(),
    };
    const kept = async (requestId: string) =>
      (await world.manager.services.api.admin.audit.list({ requestId, limit: 100, offset: 0 }, world.ctx())).items;
    const lastRow = { accessKey: 'operator', email: 'operator', outcome: 'done', errorCode: null };

    it.each(recordedMethods)('by %s', async (name) => {
      const requestId = newId<RequestId>();
      await runWithRequest({ requestId }, () => changes[name](operator));
      const [row, ...others] = await kept(requestId);
      expect(row).toMatchObject({ ...lastRow, action: `operator:${name.replace(/[A-Z]/g, '-$&').toLowerCase()}` });
      expect(others).toHaveLength(name === 'revokePeer' ? 1 : 0);
      expect(JSON.stringify(row)).not.toContain('hush');
    });

    it('which tells what became of a rotation of keys', async () => {
      const requestId = newId<RequestId>();
      const { id } = await runWithRequest({ requestId }, async () => {
        await operator.addInstallationKey();
        const done = await operator.reencryptSecrets();
        await operator.removeOldInstallationKeys();
        return done;
      });
      const [removed, moved, added] = await kept(requestId);
      expect(added).toMatchObject({ target: { kind: 'installation-key', id: 'new' }, changes: { id, made: true } });
      expect(moved).toMatchObject({ changes: { id, moved: expect.any(Number) } });
      expect(removed).toMatchObject({ changes: { removed: [expect.any(String)] } });
    });

    it('also by what failed, and none by what only counts', async () => {
      const requestId = newId<RequestId>();
      await runWithRequest({ requestId }, async () => {
        await operator.clearHistory({ olderThanMs: 0, dryRun: true });
        await operator.vacuumSessions({ olderThanMs: 0, dryRun: true });
        await expect(operator.revokePeer({ id: 'nobody' })).rejects.toMatchObject({ code: 'object-not-found' });
      });
      expect(await kept(requestId)).toMatchObject([
        { action: 'operator:revoke-peer', outcome: 'failed', errorCode: 'object-not-found', email: 'operator' },
      ]);
    });

    it('that is found under the name of operators', async () => {
      const input = { user: 'operator', limit: 1_000, offset: 0 };
      const { items } = await world.manager.services.api.admin.audit.list(input, world.ctx());
      expect(new Set(items.map(({ accessKey }) => accessKey))).toEqual(new Set(['operator']));
    });
  });

  it('sees when the loops of the leader last ran', async () => {
    const before = Date.now();
    await world.manager.services.settle();
    const placing = ['schedule-sessions', 'start-sessions', 'advance-sessions'];
    const ending = ['terminate-sessions', 'sweep-deadlines', 'end-dependents', 'end-idle-sessions'];
    const names = [...placing, ...ending, 'watch-agents'];
    await waitFor(
      async () => {
        const ends = await operator.loopEnds();
        return names.every((name) => Date.parse(ends[name] ?? '') >= before);
      },
      { what: 'every loop has told its end' },
    );
  });

  it('makes backups also where they take longer than a transaction may otherwise', async () => {
    const { path, remove } = await makeTempDirectory();
    onTestFinished(remove);
    const hasty = createOperator({
      ...options,
      database: {
        db: world.database.withDeadlines({ statementMs: 10_000, transactionMs: 1 }),
        withDeadlines: (deadlines) => world.database.withDeadlines(deadlines),
      },
    });
    expect((await hasty.backup({ file: join(path, 'x.backup') })).rows).toBeGreaterThan(0);
  });

  it('finds every command, and how the manager is, at its admin socket', async () => {
    expect([...operatorMethods].sort()).toEqual(Object.keys(operator).sort());
    const handlers = { ...managerHandlers(world.manager), ...operatorHandlers(operator) };
    expect(await handlers.verify?.({})).toEqual([]);
    // On a busy machine it may have lost its lease for a moment.
    await waitFor(() => world.manager.services.leaderEpoch() !== undefined, { what: 'it leads' });
    expect(await handlers.status?.({})).toMatchObject({
      managerId: 'manager',
      pid: process.pid,
      epoch: expect.any(Number),
      connectedAgents: ['i-one'],
      agents: { ALIVE: 1 },
    });
    const { text } = (await handlers.schedulerSnapshot!({})) as { text: string };
    expect(parseSnapshot(text).agents).toMatchObject([{ id: 'i-one', status: 'ALIVE' }]);
    expect(text).not.toMatch(/secret/i);
  });
});
