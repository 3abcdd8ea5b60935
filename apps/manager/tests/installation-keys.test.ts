import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newId, systemClock } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { runWithRequest } from '@backend.ai/telemetry';
import { makeTempDirectory, type TempDirectory, testDatabase, waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Manager } from '../src/index.ts';
import { InstallationKeyRepository } from '../src/repositories/installation-keys.ts';
import { StoredSecretRepository } from '../src/repositories/stored-secrets.ts';
import { InstallationKeyService } from '../src/services/installation-keys/installation-key-service.ts';
import { makeInstallationKeys, readInstallationKeys } from '../src/services/installation-keys/key-file.ts';
import { secretContexts } from '../src/services/installation-keys/reencrypt.ts';
import { SecretBox } from '../src/services/installation-keys/secret-box.ts';
import { CrashPoints } from './crash-points.ts';
import { createWorld, type World } from './world.ts';

/**
 * An installation with secrets of all kinds and managers on two machines, each with a key file of its own. Rotations follow one
 * another, as in the life of an installation.
 */

let world: World;
let machine: TempDirectory;
let second: { readonly manager: Manager; readonly keyFile: string };

beforeAll(async () => {
  world = await createWorld();
  await world.addAgent('i-one');
  const { id } = await world.create({ clusterSize: 2 });
  await world.until(id, 'RUNNING');
  machine = await makeTempDirectory();
  const keyFile = join(machine.path, 'installation.key');
  await copyFile(world.installationKeyFile, keyFile);
  const { manager } = await world.addManager({ machine: { id: 'm-2', installationKeyFile: keyFile } });
  second = { manager, keyFile };
  const registry = { name: 'one', url: 'http://one.example', username: 'somebody', password: 'hush' };
  await inRequest(() => registries().create({ ...registry, repositories: [], isActive: true }, world.ctx()));
});
afterAll(async () => {
  await world.close();
  await machine.remove();
});

/** What an operator does on the machine of the first manager. */
function keysAt(file = world.installationKeyFile, patienceMs = 20_000, db: Database = world.database.db) {
  return new InstallationKeyService({
    ...{ file, patienceMs, clock: systemClock },
    keys: new InstallationKeyRepository(db),
    secrets: new StoredSecretRepository(db),
  });
}

const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);
const registries = () => second.manager.services.api.admin.registry;
const bringToSecond = (): Promise<void> => copyFile(world.installationKeyFile, second.keyFile);
const idsOf = async (file: string): Promise<string[]> => (await readInstallationKeys(file)).map(({ id }) => id);
const inUse = async (): Promise<string[]> => {
  const counts = await new StoredSecretRepository(world.database.db).countByKey();
  return [...new Set(counts.map(({ keyId }) => keyId))];
};

/** Of every secret its text, whatever key it is under. */
async function readAll(file: string): Promise<string[]> {
  const keys = await readInstallationKeys(file);
  const box = new SecretBox(keys, keys[0]!.id, file);
  const stored = await new StoredSecretRepository(world.database.db).listUnderOthers('', 100);
  return stored.map(({ kind, id, encrypted }) => box.decrypt(encrypted, secretContexts[kind](id)));
}

/** Both managers let the administrator in, whose secret they read anew. */
async function expectBothServe(): Promise<void> {
  for (const { services } of [world.manager, second.manager]) {
    services.keypairs.forgetAll();
    expect(await services.keypairs.find(world.admin.accessKey)).toMatchObject({ secretKey: world.adminSecret });
  }
}

describe('rotating the installation key', () => {
  it('moves every secret that is stored, which is then what it was', async () => {
    const { db } = world.database;
    const before = await readAll(world.installationKeyFile);
    expect(before).toEqual([expect.stringContaining('RSA PRIVATE KEY'), world.adminSecret, 'hush']);
    const { id } = await keysAt().add();
    await bringToSecond();
    expect(await keysAt().reencrypt()).toEqual({ id, moved: 3 });
    expect(await keysAt().reencrypt()).toEqual({ id, moved: 0 });

    // A column that is encrypted and not moved would be lost with the old key.
    const columns = await db.execute<{ table: string; column: string }>(sql`
      select table_name as table, column_name as column from information_schema.columns
      where table_schema = 'public' and column_name like '%\\_encrypted'`);
    expect([...columns]).toHaveLength(3);
    for (const { table, column } of columns) {
      const rows = await db.execute<{ text: string }>(sql.raw(`select ${column} as text from ${table}`));
      for (const { text } of rows) expect([table, text.split('.')[1]]).toEqual([table, id]);
    }
    expect(await readAll(world.installationKeyFile)).toEqual(before);
    await expectBothServe();
    expect(await keysAt().removeOld()).toMatchObject({ removed: [expect.any(String)] });
    expect(await idsOf(world.installationKeyFile)).toEqual([id]);
    expect(await readAll(world.installationKeyFile)).toEqual(before);
    await bringToSecond();
  });

  it('begins when every manager has told that it has the key, which none needs a restart for', async () => {
    const [former] = await inUse();
    const { id } = await keysAt().add();
    expect(await keysAt().add()).toMatchObject({ id, made: false, managers: ['m-2', 'manager'] });
    await expect(keysAt(undefined, 500).reencrypt()).rejects.toMatchObject({
      code: 'state-conflict',
      message: 'These managers do not have the new key yet: m-2.',
    });
    expect(await inUse()).toEqual([former]);
    const { keys, unknown } = await keysAt().show();
    const [before, next] = [
      { keypair: 1, cluster: 1, registry: 1 },
      { keypair: 0, cluster: 0, registry: 0 },
    ];
    expect(keys).toEqual([
      {
        id: former,
        state: 'current',
        since: expect.any(String),
        inFile: true,
        secrets: before,
        managers: expect.arrayContaining(['m-2']),
      },
      { id, state: 'next', since: null, inFile: true, secrets: next, managers: ['manager'] },
    ]);
    expect(unknown).toEqual([]);
    await bringToSecond();
    await keysAt().reencrypt();
    expect(await inUse()).toEqual([id]);
    await expectBothServe();
  });

  it('lets managers encrypt what is new by the new key, and keeps the old one while anything is under it', async () => {
    const [current = ''] = await inUse();
    const { db } = world.database;
    await inRequest(() => registries().modify({ name: 'one', password: 'another' }, world.ctx()));
    const { id } = await world.create({ clusterSize: 2 });
    await world.until(id, 'RUNNING');
    expect(await inUse()).toEqual([current]);

    // As written by somebody who was paused for all that time.
    const old = (await idsOf(world.installationKeyFile)).find((each) => each !== current) ?? '';
    const box = new SecretBox(await readInstallationKeys(world.installationKeyFile), old, world.installationKeyFile);
    const { accessKey } = world.admin;
    await db.execute(sql`update keypairs set secret_key_encrypted = ${box.encrypt(world.adminSecret, accessKey)}`);
    await expect(keysAt().removeOld()).rejects.toMatchObject({
      code: 'state-conflict',
      hint: expect.stringContaining('mgr installation-key reencrypt'),
    });
    expect(await keysAt().reencrypt()).toEqual({ id: current, moved: 1 });
    expect(await keysAt().removeOld()).toMatchObject({ removed: [old], managers: expect.arrayContaining(['m-2']) });
    expect(await idsOf(second.keyFile)).toEqual([old, current]);
    expect(await keysAt(second.keyFile).removeOld()).toMatchObject({ removed: [old] });
    expect(await readFile(second.keyFile)).toEqual(await readFile(world.installationKeyFile));
    await waitFor(async () => (await keysAt().removeOld()).managers.length === 0, { what: 'managers have let it go' });
    expect(await keysAt().removeOld()).toMatchObject({ removed: [] });
    await expectBothServe();
  });

  it('is refused on a machine that knows less than another one, where no manager starts, and before there is a key', async () => {
    const stale = join(machine.path, 'stale.key');
    await copyFile(world.installationKeyFile, stale);
    const { id } = await keysAt().add();
    const known = async (): Promise<boolean> =>
      (await keysAt().show()).keys.some((key) => key.id === id && key.managers.includes('manager'));
    await waitFor(known, { what: 'the first manager has told of it' });
    const there = keysAt(second.keyFile);
    for (const attempt of [() => there.add(), () => there.reencrypt()]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'state-conflict', message: expect.stringContaining(id) });
    }
    await bringToSecond();
    await keysAt().reencrypt();
    await keysAt().removeOld();
    await bringToSecond();
    await expect(world.addManager({ machine: { id: 'm-3', installationKeyFile: stale } })).rejects.toMatchObject({
      code: 'config-invalid',
      hint: expect.stringContaining(stale),
    });
    const other = join(machine.path, 'of-another-installation.key');
    await makeInstallationKeys(other);
    await expect(keysAt(other).add()).rejects.toMatchObject({ code: 'config-invalid' });
    const empty = await testDatabase();
    onTestFinished(() => empty.close());
    await expect(keysAt(other, 0, empty.db).add()).rejects.toMatchObject({
      code: 'state-conflict',
      hint: expect.stringContaining('start-server'),
    });
  });

  it('names the secret that somebody changed in the database, and goes on when it is whole again', async () => {
    const { db } = world.database;
    await keysAt().add();
    await bringToSecond();
    const [row] = await db.execute<{ text: string }>(sql`select secret_key_encrypted as text from keypairs`);
    const damaged = `${row?.text.slice(0, -4)}AAAA`;
    await db.execute(sql`update keypairs set secret_key_encrypted = ${damaged}`);
    await expect(keysAt().reencrypt()).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringContaining(`key pair ${world.admin.accessKey}`),
    });
    await db.execute(sql`update keypairs set secret_key_encrypted = ${row?.text}`);
    await keysAt().reencrypt();
    expect(await inUse()).toHaveLength(1);
    await expectBothServe();
  });

  it('can be killed after each of its steps, and is brought to its end by doing it again', async () => {
    const secrets = await readAll(world.installationKeyFile);
    const crashes = new CrashPoints();
    const rotate = async (db: Database): Promise<void> => {
      const keys = keysAt(undefined, 20_000, db);
      await keys.add();
      await bringToSecond();
      await keys.reencrypt();
      await keys.removeOld();
    };
    let steps = 0;
    for (let step = 1; ; step += 1) {
      crashes.newLife();
      const mortal = crashes.database(world.database.db);
      crashes.killAfter(step);
      const killed = await rotate(mortal).then(
        () => crashes.killed,
        () => true,
      );
      if (!killed) break;
      steps = step;
      await expectBothServe();
      expect(await readAll(world.installationKeyFile)).toEqual(secrets);
      await rotate(world.database.db);
      expect(await readAll(world.installationKeyFile)).toEqual(secrets);
      expect(await idsOf(world.installationKeyFile)).toEqual(await inUse());
      await expectBothServe();
    }
    // The file, which key encrypts, three kinds of secrets, the file.
    expect(steps).toBe(6);
  });
});
