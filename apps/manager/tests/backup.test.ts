import { chmod, copyFile, lstat, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { EmbeddedConfigStore } from '@backend.ai/coordination';
import { newId, systemClock } from '@backend.ai/core';
import {
  type Database,
  type DatabaseHandle,
  leaderLease,
  managerMigrations,
  migrate,
  openPglite,
} from '@backend.ai/database';
import { runWithRequest, silentLogger } from '@backend.ai/telemetry';
import { makeTempDirectory, testDatabase } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { openInstallationKey } from '../src/installation.ts';
import { BackupRepository } from '../src/repositories/backup.ts';
import { KeypairRepository } from '../src/repositories/keypairs.ts';
import { verifyLedger } from '../src/repositories/ledger.ts';
import { restoreEmbedded } from '../src/restore-embedded.ts';
import { BackupService, type RestoreTarget } from '../src/services/backup/backup-service.ts';
import { appendInstallationKey } from '../src/services/installation-keys/key-file.ts';
import { createWorld, type World } from './world.ts';

const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);
let world: World;
let folder: Awaited<ReturnType<typeof makeTempDirectory>>;
let file: string;

beforeAll(async () => {
  world = await createWorld();
  folder = await makeTempDirectory();
  file = join(folder.path, 'cluster.backup');
  await world.addAgent('i-one');
  const [alive, ended] = [await world.create({ environ: { TEXT: 'ä "quoted" \\ \n' } }), await world.create()];
  for (const { id } of [alive, ended]) await world.until(id, 'RUNNING');
  await world.manager.services.api.session.destroy({ session: ended.id, forced: false }, world.ctx());
  await world.until(ended.id, 'TERMINATED');
  await new EmbeddedConfigStore(world.database.db, silentLogger).put('volumes/default', 'local');
  await inRequest(() => world.manager.services.peers.createToken({ kind: 'agent' }));
  await serviceOn(world.database.db, world.installationKeyFile).backup(file);
});
afterAll(async () => {
  await world.close();
  await folder.remove();
});

function serviceOn(db: Database, keyFile: string, rows = new BackupRepository(db)): BackupService {
  return new BackupService({
    rows,
    configStore: new EmbeddedConfigStore(db, silentLogger),
    keyFiles: { 'installation.key': keyFile },
    version: '0.1.0',
    clock: systemClock,
  });
}

async function emptyPlace(): Promise<{ handle: DatabaseHandle; keyFile: string; service: BackupService }> {
  const [handle, directory] = await Promise.all([testDatabase(), makeTempDirectory()]);
  onTestFinished(async () => {
    await handle.close();
    await directory.remove();
  });
  const keyFile = join(directory.path, 'installation.key');
  return { handle, keyFile, service: serviceOn(handle.db, keyFile) };
}

const target = (db: Database) => ({
  settings: () => new EmbeddedConfigStore(db, silentLogger).list(''),
  migrateTo: async (): Promise<void> => {
    await migrate(db, { directory: managerMigrations });
  },
});

/** Every row of every table but those that restoring changes. */
async function contents(db: Database): Promise<Record<string, unknown[]>> {
  const tables: Record<string, unknown[]> = {};
  await new BackupRepository(db).read(
    () => {},
    async ({ table, rows }) => {
      if (table === 'leases' || table === 'peer_tokens') return;
      tables[table] = [...(tables[table] ?? []), ...(JSON.parse(rows) as unknown[])];
    },
  );
  return tables;
}

describe('a backup', () => {
  it('makes an embedded cluster in a folder into which only its owner may look', async () => {
    const { path, remove } = await makeTempDirectory();
    onTestFinished(remove);
    const root = join(path, 'cluster');
    expect(await restoreEmbedded(root, file)).toMatchObject({ settings: 1, keyFiles: ['installation.key'] });
    for (const each of ['', 'database', 'keys']) expect((await stat(join(root, each))).mode & 0o777).toBe(0o700);
    const handle = await openPglite({ dataDir: join(root, 'database') });
    onTestFinished(() => handle.close());
    const rows = sql`select access_key, outcome, target_id from audit_log where action = 'operator:restore'`;
    expect([...(await handle.db.execute(rows))]).toEqual([
      { access_key: 'operator', outcome: 'done', target_id: file },
    ]);
  });

  it('leaves a folder alone in which somebody else’s things lie', async () => {
    const { path, remove } = await makeTempDirectory();
    onTestFinished(remove);
    await writeFile(join(path, 'thesis.tex'), '');
    await chmod(path, 0o755);
    await expect(restoreEmbedded(path, file)).rejects.toMatchObject({
      code: 'config-invalid',
      message: expect.stringContaining('holds something else'),
    });
    expect([await readdir(path), (await stat(path)).mode & 0o777]).toEqual([['thesis.tex'], 0o755]);
  });

  it('brings back every row, setting and key, and an epoch above all that agents have seen', async () => {
    const { handle, keyFile, service } = await emptyPlace();
    const report = await service.restore(file, target(handle.db));
    expect(report).toMatchObject({ settings: 1, keyFiles: ['installation.key'], rows: expect.any(Number) });
    const before = await contents(world.database.db);
    expect(Object.keys(before)).toEqual(
      expect.arrayContaining(['sessions', 'kernels', 'resource_allocations', 'peers']),
    );
    // Heartbeats went on at the original.
    const stable = (tables: Record<string, unknown[]>) => ({ ...tables, agents: undefined, kernels: undefined });
    expect(stable(await contents(handle.db))).toEqual(stable(before));
    expect(await verifyLedger(handle.db)).toEqual([]);
    expect(await new EmbeddedConfigStore(handle.db, silentLogger).get('volumes/default')).toMatchObject({
      value: 'local',
    });
    const epoch = sql`select epoch::int as epoch from leases where name = ${leaderLease}`;
    const [restored] = await handle.db.execute<{ epoch: number }>(epoch);
    expect(restored?.epoch).toBeGreaterThan((world.manager.services.leaderEpoch() ?? 0) + 100_000);
    expect((await stat(keyFile)).mode & 0o777).toBe(0o600);
    const box = await openInstallationKey(handle.db, keyFile);
    const keypair = await new KeypairRepository(handle.db).findActive(world.admin.accessKey);
    expect(box.decrypt(keypair?.secretKeyEncrypted ?? '', world.admin.accessKey)).toBe(world.adminSecret);
  });

  it('may be read by its owner only and leaves no half-written file beside it', async () => {
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readdir(folder.path)).toEqual(['cluster.backup']);
  });

  it('goes into no file that others made ready beside it, and not into another backup of that name', async () => {
    const { path, remove } = await makeTempDirectory();
    onTestFinished(remove);
    const [named, elsewhere] = [join(path, 'x.backup'), join(path, 'elsewhere')];
    await writeFile(elsewhere, '');
    await chmod(elsewhere, 0o666);
    await symlink(elsewhere, `${named}.part`);
    const service = serviceOn(world.database.db, world.installationKeyFile);
    const reports = await Promise.all([service.backup(named), service.backup(named)]);
    expect((await lstat(named)).isFile()).toBe(true);
    expect((await stat(named)).mode & 0o777).toBe(0o600);
    expect(await readFile(elsewhere, 'utf8')).toBe('');
    const { handle, service: other } = await emptyPlace();
    expect(reports.map(({ rows }) => rows)).toContain((await other.restore(named, target(handle.db))).rows);
    expect((await readdir(path)).sort()).toEqual(['elsewhere', 'x.backup', 'x.backup.part']);
  });

  it('takes rows from the database many at a time, because on PGlite everybody else waits meanwhile', async () => {
    const { handle } = await emptyPlace();
    await handle.db.execute(sql`create table filler as
      select i as id, repeat(md5(i::text), 20) as text from generate_series(1, 20000) i`);
    const portions: number[] = [];
    await new BackupRepository(handle.db).read(
      () => {},
      async ({ table, count, rows }) => {
        if (table !== 'filler') return;
        expect(JSON.parse(rows)).toHaveLength(count);
        portions.push(count);
      },
    );
    expect(portions.reduce((sum, count) => sum + count)).toBe(20_000);
    expect(portions.length).toBeLessThan(20);
  });

  it('is refused when a key came or went while rows were read, which may be encrypted by it', async () => {
    const { path, remove } = await makeTempDirectory();
    onTestFinished(remove);
    const keyFile = join(path, 'installation.key');
    await copyFile(world.installationKeyFile, keyFile);
    const { db } = world.database;
    const rows = new (class extends BackupRepository {
      override async read(...args: Parameters<BackupRepository['read']>): Promise<void> {
        await super.read(...args);
        await appendInstallationKey(keyFile);
      }
    })(db);
    const changing = serviceOn(db, keyFile, rows);
    await expect(changing.backup(join(path, 'x.backup'))).rejects.toMatchObject({ code: 'state-conflict' });
    expect(await readdir(path)).toEqual(['installation.key']);
  });

  it('that could not be made leaves nothing behind', async () => {
    const broken = serviceOn(world.database.db, join(folder.path, 'absent.key'));
    await expect(broken.backup(join(folder.path, 'other.backup'))).rejects.toThrow('absent.key');
    const sound = serviceOn(world.database.db, world.installationKeyFile);
    await expect(sound.backup(join(folder.path, 'absent', 'other.backup'))).rejects.toMatchObject({
      code: 'invalid-input',
      message: expect.stringContaining('ENOENT'),
    });
    await expect(sound.backup('/dev/full/x')).rejects.toMatchObject({ code: 'invalid-input' });
    expect(await readdir(folder.path)).toEqual(['cluster.backup']);
  });

  it('is not restored over an installation, whose schema stays as it is', async () => {
    const { handle, service } = await emptyPlace();
    await service.restore(file, target(handle.db));
    const migrateTo = vi.fn<RestoreTarget['migrateTo']>();
    await expect(service.restore(file, { ...target(handle.db), migrateTo })).rejects.toMatchObject({
      code: 'state-conflict',
      message: expect.stringContaining('not empty'),
    });
    expect(migrateTo).not.toHaveBeenCalled();
  });

  it('is not restored over the settings of another installation', async () => {
    const { handle, keyFile, service } = await emptyPlace();
    const settings = new EmbeddedConfigStore(handle.db, silentLogger);
    await settings.put('volumes/default', 'nfs');
    const migrateTo = vi.fn<RestoreTarget['migrateTo']>();
    await expect(service.restore(file, { ...target(handle.db), migrateTo })).rejects.toMatchObject({
      code: 'state-conflict',
      message: expect.stringContaining('volumes/default'),
    });
    expect(migrateTo).not.toHaveBeenCalled();
    expect(await settings.get('volumes/default')).toMatchObject({ value: 'nfs' });
    await expect(stat(keyFile)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('is restored by a second attempt where the first one was cut off before the rows', async () => {
    const { handle, keyFile, service } = await emptyPlace();
    const broken = new BackupRepository(handle.db);
    broken.fill = () => Promise.reject(new Error('power cut'));
    await expect(serviceOn(handle.db, keyFile, broken).restore(file, target(handle.db))).rejects.toThrow('power cut');
    expect(await new EmbeddedConfigStore(handle.db, silentLogger).list('')).toHaveLength(1);
    expect(await service.restore(file, target(handle.db))).toMatchObject({ settings: 1 });
  });

  it('lets nobody join with a token that was open when it was made', async () => {
    const { handle, service } = await emptyPlace();
    await service.restore(file, target(handle.db));
    const open = sql`select id from peer_tokens where used_at is null and expires_at > now()`;
    expect(await world.database.db.execute(open)).toHaveLength(1);
    expect(await handle.db.execute(open)).toEqual([]);
    expect(await handle.db.execute(sql`select id from peer_tokens where used_at is null`)).toHaveLength(1);
  });

  it('is not restored over the key of another installation', async () => {
    const { handle, keyFile, service } = await emptyPlace();
    await writeFile(keyFile, 'another one');
    await expect(service.restore(file, target(handle.db))).rejects.toMatchObject({ code: 'state-conflict' });
    expect(await readFile(keyFile, 'utf8')).toBe('another one');
    expect(await new BackupRepository(handle.db).filledTables()).toEqual([]);
  });

  it('that is cut short, damaged, foreign or absent is refused before anything is written', async () => {
    const { handle, service } = await emptyPlace();
    const whole = await readFile(file);
    const bad = join(folder.path, 'bad.backup');
    const restored = () => service.restore(bad, target(handle.db));
    onTestFinished(() => rm(bad, { force: true }));
    await expect(restored()).rejects.toMatchObject({ code: 'file-not-found' });
    const lines = gunzipSync(whole).toString('utf8').split('\n');
    for (const content of [
      whole.subarray(0, whole.length - 20),
      gzipSync(lines.slice(0, -3).join('\n')),
      gzipSync(lines.slice(1).join('\n')),
      gzipSync('{"kind":"head"}'),
      Buffer.from('text'),
      Buffer.alloc(0),
    ]) {
      await writeFile(bad, content);
      await expect(restored()).rejects.toMatchObject({ code: 'invalid-input' });
    }
    expect(await new BackupRepository(handle.db).filledTables()).toEqual([]);
  });
});
