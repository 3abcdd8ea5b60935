import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { EmbeddedConfigStore } from '@backend.ai/coordination';
import { systemClock } from '@backend.ai/core';
import { type Database, type DatabaseHandle, leaderLease, managerMigrations, migrate } from '@backend.ai/database';
import { silentLogger } from '@backend.ai/telemetry';
import { makeTempDirectory, testDatabase } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { BackupRepository } from '../src/repositories/backup.ts';
import { KeypairRepository } from '../src/repositories/keypairs.ts';
import { verifyLedger } from '../src/repositories/ledger.ts';
import { BackupService } from '../src/services/backup/backup-service.ts';
import { openSecretBox } from '../src/services/keypairs/secret-box.ts';
import { createWorld, type World } from './world.ts';

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
  await serviceOn(world.database.db, world.installationKeyFile).backup(file);
});
afterAll(async () => {
  await world.close();
  await folder.remove();
});

function serviceOn(db: Database, keyFile: string): BackupService {
  return new BackupService({
    rows: new BackupRepository(db),
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
  migrateTo: async (): Promise<void> => {
    await migrate(db, { directory: managerMigrations });
  },
});

/** Every row of every table but the two that restoring writes itself. */
async function contents(db: Database): Promise<Record<string, unknown[]>> {
  const tables: Record<string, unknown[]> = {};
  await new BackupRepository(db).read(
    () => {},
    async ({ table, row }) => {
      if (table === 'leases' || table === 'config_entries') return;
      tables[table] = [...(tables[table] ?? []), JSON.parse(row)];
    },
  );
  return tables;
}

describe('a backup', () => {
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
    const box = await openSecretBox(keyFile);
    const keypair = await new KeypairRepository(handle.db).findActive(world.admin.accessKey);
    expect(box.decrypt(keypair?.secretKeyEncrypted ?? '', world.admin.accessKey)).toBe(world.adminSecret);
  });

  it('may be read by its owner only and leaves no half-written file beside it', async () => {
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readdir(folder.path)).toEqual(['cluster.backup']);
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

  it('is not restored over an installation', async () => {
    const { handle, service } = await emptyPlace();
    await service.restore(file, target(handle.db));
    await expect(service.restore(file, target(handle.db))).rejects.toMatchObject({
      code: 'state-conflict',
      message: expect.stringContaining('not empty'),
    });
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
