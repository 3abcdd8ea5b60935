import { AppError, newId, systemClock } from '@backend.ai/core';
import { generateIdentity, type PeerIdentity, parseJoinToken } from '@backend.ai/rpc';
import { runWithRequest, silentLogger } from '@backend.ai/telemetry';
import { collectLogs, testDatabase, waitFor } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { PeerRepository } from '../src/repositories/peers.ts';
import { PeerService } from '../src/services/peers/peer-service.ts';
import { createWorld } from './world.ts';

const dayMs = 24 * 3_600_000;

async function openPeers() {
  const { db, close } = await testDatabase();
  onTestFinished(close);
  const peers = new PeerService(new PeerRepository(db), systemClock, silentLogger);
  const register = (manager: PeerIdentity) =>
    runWithRequest({ requestId: newId() }, () => peers.registerManager(manager));
  const living = async () => parseJoinToken((await peers.createToken({ kind: 'agent' })).token).managerKeys;
  return { peers, register, living };
}

describe('a manager', () => {
  it('keeps its key: another one of its name is refused and told what to do', async () => {
    const { register, living } = await openPeers();
    const manager = generateIdentity('manager', 'm-1');
    await register(manager);
    await register(manager);
    await expect(register(generateIdentity('manager', 'm-1'))).rejects.toMatchObject({
      code: 'config-invalid',
      hint: expect.stringContaining('manager.id'),
    });
    expect(await living()).toEqual([manager.publicKey]);
    await register(generateIdentity('manager', 'm-2'));
    expect(await living()).toHaveLength(2);
  });

  it('does not become what was an agent', async () => {
    const { peers, register } = await openPeers();
    await register(generateIdentity('manager', 'm-1'));
    const { token } = await peers.createToken({ kind: 'agent' });
    const agent = generateIdentity('agent', 'one-name');
    await runWithRequest({ requestId: newId() }, () => peers.directory.join!(token, agent));
    for (const identity of [generateIdentity('manager', 'one-name'), { ...agent, kind: 'manager' as const }]) {
      await expect(register(identity)).rejects.toMatchObject({ code: 'config-invalid' });
    }
    await peers.revoke('one-name');
    await expect(register(generateIdentity('manager', 'one-name'))).rejects.toMatchObject({ code: 'config-invalid' });
    expect(await peers.list()).toContainEqual(expect.objectContaining({ id: 'one-name', kind: 'agent' }));
  });

  it('that was revoked comes back with a new key only, and no token names the old one', async () => {
    const { peers, register, living } = await openPeers();
    const [other, manager, renewed] = ['m-1', 'm-2', 'm-2'].map((id) => generateIdentity('manager', id));
    await register(other!);
    await register(manager!);
    await peers.revoke('m-2');
    await expect(register(manager!)).rejects.toMatchObject({
      code: 'config-invalid',
      hint: expect.stringContaining('keys.identity-file'),
    });
    expect(await living()).toEqual([other!.publicKey]);
    await register(renewed!);
    expect([...(await living())].sort()).toEqual([other!.publicKey, renewed!.publicKey].sort());
  });

  it('stops leading when it is revoked, and says so', async () => {
    const logs = collectLogs('manager');
    const world = await createWorld({ logger: logs.logger });
    onTestFinished(() => world.close());
    const { services } = world.manager;
    expect(services.leaderEpoch()).toBeDefined();
    expect(services.facts()).toMatchObject({ revoked: false });
    const elsewhere = new PeerService(new PeerRepository(world.database.db), systemClock, silentLogger);
    await elsewhere.revoke(world.identity.id);
    await waitFor(() => services.leaderEpoch() === undefined, { what: 'the manager leads no more' });
    expect(services.facts()).toMatchObject({ revoked: true, epoch: null });
    expect(logs.records.filter(({ msg }) => String(msg).includes('has been revoked'))).toHaveLength(1);
  });
});

describe('a join token', () => {
  it('may be used for weeks, and not for years', async () => {
    const { peers, register } = await openPeers();
    await register(generateIdentity('manager', 'm-1'));
    const { expiresAt } = await peers.createToken({ kind: 'agent', ttlMs: 28 * dayMs });
    expect(Date.parse(expiresAt) - Date.now()).toBeGreaterThan(27 * dayMs);
    const tooLong = peers.createToken({ kind: 'agent', ttlMs: 1_000 * dayMs });
    await expect(tooLong).rejects.toMatchObject({ code: 'invalid-input' });
  });

  it('is not made for managers, which join without one', async () => {
    const { peers, register } = await openPeers();
    await register(generateIdentity('manager', 'm-1'));
    const failure = await peers.createToken({ kind: 'manager' }).catch(AppError.from);
    expect(failure).toMatchObject({ code: 'invalid-input' });
  });
});
