import { sql } from 'drizzle-orm';
import { expect, it, onTestFinished } from 'vitest';
import { StoredSecretRepository } from '../src/repositories/stored-secrets.ts';
import { reencrypt, secretContexts } from '../src/services/keypairs/reencrypt.ts';
import { addInstallationKey, openSecretBox } from '../src/services/keypairs/secret-box.ts';
import { createWorld } from './world.ts';

it('every secret that is stored moves to a new installation key, and is what it was', async () => {
  const world = await createWorld();
  onTestFinished(() => world.close());
  await world.addAgent('i-one');
  const { id } = await world.create({ clusterSize: 2 });
  await world.until(id, 'RUNNING');
  const { db } = world.database;
  const secrets = new StoredSecretRepository(db);
  const [old, before] = [await openSecretBox(world.installationKeyFile), await secrets.list()];
  expect(before.map(({ kind, id: of }) => [kind, of])).toEqual([
    ['cluster', id],
    ['keypair', world.admin.accessKey],
  ]);

  const box = await addInstallationKey(world.installationKeyFile);
  expect(await reencrypt(secrets, box)).toBe(2);
  expect(await reencrypt(secrets, box)).toBe(0);

  // A column that is encrypted and not moved would be lost with the old key.
  const columns = await db.execute<{ table: string; column: string }>(sql`
    select table_name as table, column_name as column from information_schema.columns
    where table_schema = 'public' and column_name like '%\\_encrypted'`);
  for (const { table, column } of columns) {
    const rows = await db.execute<{ text: string }>(sql.raw(`select ${column} as text from ${table}`));
    for (const { text } of rows) expect([table, text.split('.')[1]]).toEqual([table, box.currentKeyId]);
  }
  const after = await secrets.list();
  for (const [at, { kind, id: of, encrypted }] of before.entries()) {
    const context = secretContexts[kind](of);
    expect(box.decrypt(after[at]?.encrypted ?? '', context)).toBe(old.decrypt(encrypted, context));
  }
});
