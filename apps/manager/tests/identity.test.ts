import { readFile, stat, writeFile } from 'node:fs/promises';
import { AppError, newId, systemClock } from '@backend.ai/core';
import { parseJoinToken } from '@backend.ai/rpc';
import { runWithRequest, silentLogger } from '@backend.ai/telemetry';
import { tempDirectory, waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PeerRepository } from '../src/repositories/peers.ts';
import {
  appendInstallationKey,
  makeInstallationKeys,
  readInstallationKeys,
} from '../src/services/installation-keys/key-file.ts';
import { SecretBox } from '../src/services/installation-keys/secret-box.ts';
import { PeerService } from '../src/services/peers/peer-service.ts';
import { createWorld, type World } from './world.ts';

async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  return await work.then(
    () => undefined,
    (error: unknown) => AppError.from(error).code,
  );
}

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

describe('a first start', () => {
  it('makes one superadmin and finds it again', async () => {
    const { services } = world.manager;
    const [first, second] = await Promise.all([services.ensureInstallation(), services.ensureInstallation()]);
    expect(first).toEqual(second);
    expect(first).toMatchObject({ accessKey: world.admin.accessKey, secretKey: world.adminSecret });
    const [row] = await world.database.db.execute<{ secret: string; users: string }>(
      sql`select secret_key_encrypted as secret, (select count(*) from users) as users from keypairs`,
    );
    expect(row?.users).toBe('1');
    expect(row?.secret).toMatch(/^v1\.[0-9a-f]{12}\./);
    expect(row?.secret).not.toContain(first.secretKey);
  });
});

describe('key pairs', () => {
  it('are found while they are active, and counted', async () => {
    const { keypairs } = world.manager.services;
    const { accessKey } = world.admin;
    expect(await keypairs.find(accessKey)).toMatchObject({
      secretKey: world.adminSecret,
      actor: { role: 'superadmin' },
    });
    expect(await keypairs.find('AKIANOBODY')).toBeUndefined();
    const { limit, remaining } = await keypairs.countCalls(accessKey, 1);
    expect((await keypairs.countCalls(accessKey, 5)).remaining).toBe(remaining - 5);
    expect(limit).toBe(30_000);
    await world.database.db.execute(sql`update keypairs set is_active = false`);
    keypairs.forgetAll();
    expect(await keypairs.find(accessKey)).toBeUndefined();
    await world.database.db.execute(sql`update keypairs set is_active = true`);
  });
});

describe('the secret box', () => {
  it('keeps its key to its owner, binds a secret to its row, and lets keys rotate', async () => {
    const file = `${await tempDirectory()}/key`;
    const [keys, again] = await Promise.all([makeInstallationKeys(file), makeInstallationKeys(file)]);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(keys).toEqual(again);
    const first = keys[0]?.id ?? '';
    const [box, other] = [new SecretBox(keys, first, file), new SecretBox(again, first, file)];
    const sealed = box.encrypt('secret', 'row');
    expect(other.decrypt(sealed, 'row')).toBe('secret');
    expect(() => box.decrypt(sealed, 'other row')).toThrow();
    expect(box.encrypt('secret', 'row')).not.toBe(sealed);

    const next = await appendInstallationKey(file);
    const both = await readInstallationKeys(file);
    expect(both).toEqual([...keys, next]);
    box.use(both, next.id);
    expect(box.decrypt(sealed, 'row')).toBe('secret');
    const moved = box.encrypt('secret', 'row');
    const absent = { code: 'config-invalid', hint: expect.stringContaining(file) };
    expect(() => other.decrypt(moved, 'row')).toThrow(expect.objectContaining(absent));
    // What has not the key that encrypts changes nothing.
    expect(() => box.use(keys, next.id)).toThrow(expect.objectContaining(absent));
    expect(box.decrypt(moved, 'row')).toBe('secret');
  });

  it('takes no key from a file that is half written', async () => {
    const file = `${await tempDirectory()}/key`;
    await makeInstallationKeys(file);
    await appendInstallationKey(file);
    await writeFile(file, (await readFile(file, 'utf8')).slice(0, -10));
    await expect(readInstallationKeys(file)).rejects.toMatchObject({
      code: 'config-invalid',
      message: expect.stringContaining('not whole'),
    });
  });
});

describe('peers', () => {
  it('join once with a token that names the manager, and not after they were revoked', async () => {
    const { peers } = world.manager.services;
    const { token } = await peers.createToken({ kind: 'agent' });
    expect(parseJoinToken(token).managerKeys).toEqual([world.identity.publicKey]);
    const key = (): string => newId().replaceAll('-', '').padEnd(43, 'x');
    const join = (id: string) =>
      runWithRequest({ requestId: newId() }, () =>
        peers.directory.join!(token, { kind: 'agent', id, publicKey: key() }),
      );
    await join('i-new');
    await expect(join('i-other')).rejects.toMatchObject({ code: 'peer-rejected' });
    expect(await peers.publicKeyOf('agent', 'i-new')).toBeDefined();
    await peers.revoke('i-new');
    expect(await peers.directory.find('agent', 'i-new', '')).toBeUndefined();
    await expect(peers.revoke('nobody')).rejects.toMatchObject({ code: 'object-not-found' });
  });

  it('keep their names: another key needs a revocation first, and the same key joins as often as it likes', async () => {
    const { peers } = world.manager.services;
    const joining = async (publicKey: string, token?: string) => {
      const issued = token ?? (await peers.createToken({ kind: 'agent' })).token;
      const peer = { kind: 'agent', id: 'i-named', publicKey } as const;
      await runWithRequest({ requestId: newId() }, () => peers.directory.join!(issued, peer));
      return issued;
    };
    const [mine, theirs] = ['m'.repeat(43), 't'.repeat(43)];
    const spent = await joining(mine);
    await joining(mine, spent);
    const { token } = await peers.createToken({ kind: 'agent' });
    await expect(joining(theirs, token)).rejects.toMatchObject({
      code: 'peer-rejected',
      hint: expect.stringContaining('mgr peers revoke i-named'),
    });
    expect(await peers.publicKeyOf('agent', 'i-named')).toBe(mine);
    await peers.revoke('i-named');
    // The refusal has not spent it.
    await joining(theirs, token);
    expect(await peers.publicKeyOf('agent', 'i-named')).toBe(theirs);
  });

  it('of one name that come at the same moment are one', async () => {
    const { peers } = world.manager.services;
    const tokens = await Promise.all(Array.from({ length: 5 }, () => peers.createToken({ kind: 'agent' })));
    const joined = await Promise.allSettled(
      tokens.map(({ token }, index) =>
        runWithRequest({ requestId: newId() }, () =>
          peers.directory.join!(token, { kind: 'agent', id: 'i-crowd', publicKey: `${index}`.repeat(43) }),
        ),
      ),
    );
    expect(joined.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('cannot join with a token for another kind or one that expired', async () => {
    const { peers } = world.manager.services;
    const worker = await peers.createToken({ kind: 'worker' });
    const old = await peers.createToken({ kind: 'agent', ttlMs: 0 });
    for (const { token } of [worker, old]) {
      const joining = runWithRequest({ requestId: newId() }, () =>
        peers.directory.join!(token, { kind: 'agent', id: 'i-x', publicKey: 'k'.repeat(43) }),
      );
      await expect(joining).rejects.toMatchObject({ code: 'peer-rejected' });
    }
  });

  it('are cut off when they are revoked by another process', async () => {
    const agent = await world.addAgent('i-revoked-elsewhere');
    const elsewhere = new PeerService(new PeerRepository(world.database.db), systemClock, silentLogger);
    await elsewhere.revoke('i-revoked-elsewhere');
    await waitFor(async () => (await codeOf(agent.heartbeat())) !== undefined, { what: 'the connection is cut' });
    expect(await codeOf(agent.heartbeat())).toMatch(/peer-rejected|connection-lost/);
  });

  it('are cut off when they are revoked', async () => {
    const agent = await world.addAgent('i-revoked');
    await world.manager.services.peers.revoke('i-revoked');
    await waitFor(async () => (await codeOf(agent.heartbeat())) !== undefined, { what: 'the connection is cut' });
    expect(await codeOf(agent.heartbeat())).toMatch(/peer-rejected|connection-lost/);
  });
});
