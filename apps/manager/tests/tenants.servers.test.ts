import { RedisEventBus, RedisServer } from '@backend.ai/coordination';
import { newId } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { Manager } from '../src/index.ts';
import { addMember, apiOf } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

let redis: RedisServer;
let world: World;
let other: Manager;

beforeAll(async () => {
  redis = await RedisServer.open({ url: inject('servers').redisUrl, logger: silentLogger });
  const prefix = `test:${newId()}:`;
  world = await createWorld({
    eventBus: () => new RedisEventBus({ server: redis, prefix, source: newId(), logger: silentLogger }),
    // What a manager is not told of it knows for an hour.
    config: { keypairCacheMs: 3_600_000 },
  });
  other = (await world.addManager()).manager;
  await apiOf(world, world.admin)((api) => api.admin.domain.create({ name: 'closing' }));
});
afterAll(async () => {
  await world.close();
  await redis.close();
});

describe('two managers', () => {
  it.each(['key pair', 'user', 'domain'])('both stop a deactivated %s at once', async (what) => {
    const { accessKey, email } = (await addMember(world, 'closing')).actor;
    const knows = async (): Promise<boolean> => (await other.services.keypairs.find(accessKey)) !== undefined;
    await waitFor(knows, { what: 'the other manager knows the key pair' });
    await apiOf(
      world,
      world.admin,
    )(async ({ admin }): Promise<unknown> => {
      if (what === 'key pair') return await admin.keypair.modify({ accessKey, isActive: false });
      if (what === 'user') return await admin.user.modify({ user: email, status: 'inactive' });
      return await admin.domain.delete({ name: 'closing' });
    });
    expect(await world.manager.services.keypairs.find(accessKey)).toBeUndefined();
    await waitFor(async () => !(await knows()), { what: 'the other manager has forgotten the key pair' });
  });
});
