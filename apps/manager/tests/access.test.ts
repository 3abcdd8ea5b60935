import { type Action, createApiRouter, extentOf, procedureMetas } from '@backend.ai/contract';
import { hasCode, type UserRole } from '@backend.ai/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiCaller, apiOf, createTenants, type Tenants } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let tenants: Tenants;

beforeAll(async () => {
  world = await createWorld();
  tenants = await createTenants(world);
});
afterAll(() => world.close());

/** Every procedure there is: a new one is called here without anybody's doing. */
const procedures = [...procedureMetas(createApiRouter(new Proxy({}, { get: nested }) as never))];

function nested(): unknown {
  return new Proxy(() => undefined, { get: nested });
}

async function outcome(path: string, actor: Parameters<typeof apiOf>[1]): Promise<'refused' | 'let in'> {
  return await apiOf(
    world,
    actor,
  )(async (api) => {
    const call = path.split('.').reduce<unknown>((at, name) => (at as Record<string, unknown>)[name], api) as (
      input: unknown,
    ) => Promise<unknown>;
    // No input fits every procedure: rights are looked at before it is.
    return await call({ unknown: true });
  }).then(
    () => 'let in',
    (error: unknown) => (hasCode(error, 'auth-missing', 'forbidden') ? 'refused' : 'let in'),
  );
}

describe.each(procedures)('%s', (path, { access }) => {
  it('lets in nobody who is unknown, and no peer', async () => {
    const peer = { kind: 'peer', peerKind: 'agent', peerId: 'i-x' } as const;
    for (const actor of [{ kind: 'anonymous' }, peer] as const) {
      expect(await outcome(path, actor)).toBe(access === 'open' ? 'let in' : 'refused');
    }
  });

  it('lets in those roles that the table of actions gives an extent', async () => {
    const roles: ReadonlyArray<readonly [keyof Tenants, UserRole]> = [
      ['user', 'user'],
      ['ownAdmin', 'admin'],
      ['foreignAdmin', 'admin'],
      ['superadmin', 'superadmin'],
    ];
    for (const [who, role] of roles) {
      const mayEnter = access === 'open' || extentOf(role, access as Action) !== null;
      expect([role, await outcome(path, tenants[who])]).toEqual([role, mayEnter ? 'let in' : 'refused']);
    }
  });
});

/** What each procedure about one user's things is asked of the user `victim`. */
type Call = (api: ApiCaller) => Promise<unknown>;

describe('things of a user', () => {
  const cases = (victim: Tenants['user']): Readonly<Record<string, Call>> => ({
    'user:read': (api) => api.admin.user.get({ user: victim.email }),
    'user:modify': (api) => api.admin.user.modify({ user: victim.email, description: 'x' }),
    'user:delete': (api) => api.admin.user.delete({ user: victim.email }),
    'user:purge': (api) => api.admin.user.purge({ user: victim.email }),
    'keypair:read': (api) => api.admin.keypair.get({ accessKey: victim.accessKey }),
    'keypair:create': (api) => api.admin.keypair.create({ user: victim.email }),
    'keypair:modify': (api) => api.admin.keypair.modify({ accessKey: victim.accessKey, rateLimit: 1 }),
    'keypair:delete': (api) => api.admin.keypair.delete({ accessKey: victim.accessKey }),
  });

  it('are refused to neighbours and to administrators of other domains', async () => {
    for (const [action, call] of Object.entries(cases(tenants.user)))
      for (const who of ['neighbour', 'foreignAdmin'] as const) {
        const refusal = await apiOf(
          world,
          tenants[who],
        )(call).then(
          () => undefined,
          (error) => error,
        );
        expect([action, who, hasCode(refusal, 'forbidden', 'object-not-found')]).toEqual([action, who, true]);
      }
  });
});

describe('every change of the administration', () => {
  it('leaves a row with its actor and request id, done or failed', async () => {
    const missing: string[] = [];
    const mutations = procedures.filter(([path, { type }]) => type === 'mutation' && path.startsWith('admin.'));
    expect(mutations.length).toBeGreaterThan(20);
    const { superadmin } = tenants;
    const calls: Readonly<Record<string, Call>> = {
      'admin.domain.create': (api) => api.admin.domain.create({ name: 'audited' }),
      'admin.domain.modify': (api) => api.admin.domain.modify({ name: 'audited', description: 'x' }),
      'admin.domain.delete': (api) => api.admin.domain.delete({ name: 'audited' }),
      'admin.domain.purge': (api) => api.admin.domain.purge({ name: 'audited' }),
      'admin.project.create': (api) => api.admin.project.create({ name: 'audited', domain: 'ours' }),
      'admin.project.modify': (api) =>
        api.admin.project.modify({ project: 'audited', domain: 'ours', description: 'x' }),
      'admin.project.addMembers': (api) =>
        api.admin.project.addMembers({ project: 'audited', domain: 'ours', users: [tenants.user.email] }),
      'admin.project.removeMembers': (api) =>
        api.admin.project.removeMembers({ project: 'audited', domain: 'ours', users: [tenants.user.email] }),
      'admin.project.delete': (api) => api.admin.project.delete({ project: 'audited', domain: 'ours' }),
      'admin.project.purge': (api) => api.admin.project.purge({ project: 'audited', domain: 'ours' }),
      'admin.user.create': (api) => api.admin.user.create({ email: 'audited@ours.test', domain: 'ours' }),
      'admin.user.modify': (api) => api.admin.user.modify({ user: 'audited@ours.test', description: 'x' }),
      'admin.user.changePassword': (api) => api.admin.user.changePassword({ newPassword: 'long enough' }),
      'admin.user.delete': (api) => api.admin.user.delete({ user: 'audited@ours.test' }),
      'admin.user.purge': (api) => api.admin.user.purge({ user: 'audited@ours.test' }),
      'admin.keypair.create': (api) => api.admin.keypair.create({ user: tenants.user.email }),
      'admin.keypair.modify': (api) =>
        api.admin.keypair.modify({ accessKey: tenants.neighbour.accessKey, rateLimit: 9 }),
      'admin.keypair.delete': (api) => api.admin.keypair.delete({ accessKey: tenants.foreignAdmin.accessKey }),
    };
    const covered = mutations.filter(([path]) => /^admin\.(?:domain|project|user|keypair)\./.test(path));
    expect(covered.map(([path]) => path).sort()).toEqual(Object.keys(calls).sort());
    for (const [path, call] of Object.entries(calls)) {
      const requestId = `audit-${path}`;
      await apiOf(world, superadmin, requestId)(call);
      const { items } = await apiOf(world, superadmin)((api) => api.admin.audit.list({ requestId }));
      const [row] = items;
      if (items.length !== 1 || row?.userId !== superadmin.userId || row.outcome !== 'done') missing.push(path);
    }
    expect(missing).toEqual([]);
    await expect(
      apiOf(world, superadmin, 'audit-failure')((api) => api.admin.domain.create({ name: 'ours' })),
    ).rejects.toMatchObject({ code: 'object-exists' });
    expect(await apiOf(world, superadmin)((api) => api.admin.audit.list({ requestId: 'audit-failure' }))).toMatchObject(
      { items: [{ action: 'domain:create', outcome: 'failed', errorCode: 'object-exists' }] },
    );
  });
});
