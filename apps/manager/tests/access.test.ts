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

/** What is asked of the project `lab` of the domain `ours`, in an order in which it all can be done. */
describe('things of a domain', () => {
  let lab: string;
  beforeAll(async () => {
    const make: Call = (api) => api.admin.project.create({ name: 'lab', domain: 'ours' });
    lab = ((await apiOf(world, tenants.superadmin)(make)) as { id: string }).id;
  });
  const users = (): string[] => [tenants.user.email];
  const calls: Readonly<Record<string, Call>> = {
    'domain get': (api) => api.admin.domain.get({ name: 'ours' }),
    'project get by id': (api) => api.admin.project.get({ project: lab }),
    'project get by name': (api) => api.admin.project.get({ project: 'lab', domain: 'ours' }),
    'project create': (api) => api.admin.project.create({ name: 'another', domain: 'ours' }),
    'project modify': (api) => api.admin.project.modify({ project: lab, description: 'x' }),
    'project add members': (api) => api.admin.project.addMembers({ project: lab, users: users() }),
    'project remove members': (api) => api.admin.project.removeMembers({ project: lab, users: users() }),
    'project delete': (api) => api.admin.project.delete({ project: lab }),
    'project purge': (api) => api.admin.project.purge({ project: lab }),
  };

  it('are refused to administrators of other domains', async () => {
    const look: Call = (api) => api.admin.project.get({ project: lab });
    const before = await apiOf(world, tenants.superadmin)(look);
    for (const [what, call] of Object.entries(calls)) {
      const refusal = await apiOf(
        world,
        tenants.foreignAdmin,
      )(call).then(
        () => undefined,
        (error) => error,
      );
      expect([what, hasCode(refusal, 'forbidden', 'object-not-found')]).toEqual([what, true]);
    }
    expect(await apiOf(world, tenants.superadmin)(look)).toEqual(before);
  });

  it('are done by administrators of the domain', async () => {
    for (const [what, call] of Object.entries(calls)) {
      const done = await apiOf(
        world,
        tenants.ownAdmin,
      )(call).then(
        () => 'done',
        (error) => error,
      );
      expect([what, done]).toEqual([what, 'done']);
    }
  });
});
