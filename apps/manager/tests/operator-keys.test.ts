import { copyFile, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { EmbeddedConfigStore, InProcessLiveValues } from '@backend.ai/coordination';
import { newId } from '@backend.ai/core';
import type { DatabaseHandle } from '@backend.ai/database';
import { generateIdentity } from '@backend.ai/rpc';
import { runWithRequest, silentLogger } from '@backend.ai/telemetry';
import { tempDirectory, testDatabase } from '@backend.ai/testing';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { createOperator, defaultFixture, type Operator, openInstallation } from '../src/index.ts';
import { PeerRepository } from '../src/repositories/peers.ts';
import { makeInstallationKeys } from '../src/services/installation-keys/key-file.ts';

let database: DatabaseHandle;
let folder: string;
beforeEach(async () => {
  database = await testDatabase();
  folder = await tempDirectory();
  onTestFinished(() => database.close());
});

/** What an operator does on one machine, whose keys lie in a folder of its own. */
async function operatorAt(machine: string): Promise<Operator & { keys: () => Promise<string[]>; folder: string }> {
  const place = join(folder, machine);
  await mkdir(place);
  const [installationKeyFile, identityFile] = [join(place, 'installation.key'), join(place, 'manager.pem')];
  const operator = createOperator({
    database,
    ...openInstallation({ database: database.db, installationKeyFile, adminEmail: 'a@b.c', logger: silentLogger }),
    configStore: new EmbeddedConfigStore(database.db, silentLogger),
    liveValues: new InProcessLiveValues(),
    keyFiles: { 'installation.key': installationKeyFile, 'manager.pem': identityFile },
    version: '1',
    logger: silentLogger,
  });
  return { ...operator, keys: () => readdir(place), folder: place };
}

const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);

it('operators make no keys and no managers, whatever they look at or change', async () => {
  const operator = await operatorAt('admin');
  await operator.verify();
  await operator.clearHistory({ olderThanMs: 1, dryRun: false });
  await operator.vacuumSessions({ olderThanMs: 1, dryRun: false });
  await operator.putSetting({ key: 'a', value: 'b' });
  await operator.loopEnds();
  await expect(operator.createPeerToken({ kind: 'agent' })).rejects.toMatchObject({ code: 'state-conflict' });
  await expect(operator.backup({ file: join(folder, 'b') })).rejects.toMatchObject({ code: 'config-invalid' });
  expect(await operator.listPeers()).toEqual([]);
  expect(await operator.keys()).toEqual([]);
});

it('the first fixture of an installation makes its key, and one on another machine asks for that key', async () => {
  const [first, second] = [await operatorAt('first'), await operatorAt('second')];
  const credentials = await inRequest(() => first.populateFixture({ fixture: defaultFixture }));
  expect(await first.keys()).toEqual(['installation.key']);
  await expect(inRequest(() => second.populateFixture({ fixture: defaultFixture }))).rejects.toMatchObject({
    code: 'config-invalid',
    message: expect.stringContaining(second.folder),
  });
  expect(await second.keys()).toEqual([]);
  await copyFile(join(first.folder, 'installation.key'), join(second.folder, 'installation.key'));
  expect(await inRequest(() => second.populateFixture({ fixture: defaultFixture }))).toEqual(credentials);
});

it('a backup with the keys of nobody is refused before it is written', async () => {
  const operator = await operatorAt('other');
  const file = join(folder, 'backup');
  await inRequest(async () => {
    const first = await operatorAt('first');
    await first.populateFixture({ fixture: defaultFixture });
    const { id, publicKey } = generateIdentity('manager', 'm-1');
    await new PeerRepository(database.db).registerManager({ id, publicKey, requestId: newId() });
  });
  await makeInstallationKeys(join(operator.folder, 'installation.key'));
  await copyFile(join(operator.folder, 'installation.key'), join(operator.folder, 'manager.pem'));
  await expect(operator.backup({ file })).rejects.toMatchObject({
    code: 'config-invalid',
    hint: expect.stringContaining(operator.folder),
  });
  await copyFile(join(folder, 'first', 'installation.key'), join(operator.folder, 'installation.key'));
  expect(await operator.backup({ file })).toMatchObject({ keyFiles: ['installation.key', 'manager.pem'] });
});
