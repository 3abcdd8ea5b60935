import { newId } from '@backend.ai/core';
import type { DatabaseHandle } from '@backend.ai/database';
import { generateIdentity, parseJoinToken } from '@backend.ai/rpc';
import { runWithRequest, silentLogger } from '@backend.ai/telemetry';
import { makeTempDirectory, type TempDirectory, testDatabase } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultFixture, type Installation, openInstallation, parseFixture } from '../src/index.ts';

let handle: DatabaseHandle;
let directory: TempDirectory;
let installation: Installation;

beforeAll(async () => {
  [handle, directory] = await Promise.all([testDatabase(), makeTempDirectory()]);
  installation = openInstallation({
    database: handle.db,
    installationKeyFile: `${directory.path}/installation.key`,
    adminEmail: 'admin@example.test',
    logger: silentLogger,
  });
});
afterAll(async () => {
  await handle.close();
  await directory.remove();
});

const populate = (fixture = defaultFixture) =>
  runWithRequest({ requestId: newId() }, () => installation.fixtures.populate(fixture));

describe('a fixture', () => {
  it('gives the administrator and its users credentials, the same ones every time', async () => {
    const credentials = await populate();
    expect(credentials).toMatchObject([
      { email: 'admin@example.test', role: 'superadmin', accessKey: expect.stringMatching(/^AKIA/) },
      { email: 'user@backend.ai.local', role: 'user', secretKey: expect.stringMatching(/^.{40}$/) },
    ]);
    expect(await populate()).toEqual(credentials);
    expect(await handle.db.execute(sql`select 1 from keypairs`)).toHaveLength(2);
  });

  it('brings presets, once, with sizes in bytes', async () => {
    const presets = await handle.db.execute(sql`select name, resource_slots as slots from resource_presets order by 1`);
    expect(presets).toHaveLength(3);
    expect(presets[2]).toEqual({ name: 'small', slots: { cpu: '1', mem: '1073741824' } });
  });

  it('makes its users members of their projects', async () => {
    const members = await handle.db.execute<{ email: string }>(sql`
      select u.email from project_members m join users u on u.id = m.user_id join projects p on p.id = m.project_id
      where p.domain_name = 'default' and p.name = 'default' order by u.email`);
    expect(members.map(({ email }) => email)).toEqual(['admin@example.test', 'user@backend.ai.local']);
  });

  it('of another domain is loaded beside it', async () => {
    const fixture = parseFixture({
      domains: ['lab'],
      projects: [{ domain: 'lab', name: 'genome' }],
      users: [{ email: 'a@lab.test', username: 'a', role: 'admin', domain: 'lab', projects: ['genome'] }],
    });
    expect((await populate(fixture)).at(-1)).toMatchObject({ email: 'a@lab.test', role: 'admin' });
  });

  it('is refused with what is wrong in it', async () => {
    expect(() => parseFixture({ users: [{ email: 'nobody' }], extra: 1 })).toThrow(
      expect.objectContaining({ code: 'invalid-input', message: expect.stringContaining('extra') }),
    );
    const homeless = parseFixture({ projects: [{ domain: 'nowhere', name: 'p' }] });
    await expect(populate(homeless)).rejects.toMatchObject({ code: 'invalid-input' });
  });
});

it('a token can be made before the first start of a manager that was registered, and names its key', async () => {
  const { peers } = installation;
  const manager = generateIdentity('manager', 'm-1');
  await expect(peers.createToken({ kind: 'agent' })).rejects.toMatchObject({
    code: 'state-conflict',
    hint: expect.stringContaining('mgr start-server'),
  });
  await runWithRequest({ requestId: newId() }, () => peers.registerManager(manager));
  expect(parseJoinToken((await peers.createToken({ kind: 'agent' })).token).managerKeys).toEqual([manager.publicKey]);
});
