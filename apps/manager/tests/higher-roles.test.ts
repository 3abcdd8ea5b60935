import { type Action, actions, extentOf, type UserActor } from '@backend.ai/contract';
import { hasCode } from '@backend.ai/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiCaller, addMember, apiOf } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

/** What an administrator of a domain may do with a superadmin who belongs to that very domain. */
let world: World;
let admin: UserActor;
let user: UserActor;
let project: string;
/** A superadmin of the same domain. */
let above: UserActor;
/** Of the superadmin, with the rights of an ordinary user. */
let plainKey: string;
/** Of the superadmin. */
let session: string;

beforeAll(async () => {
  world = await createWorld();
  await world.addAgent('i-one');
  const superadmin = apiOf(world, world.admin);
  await superadmin((api) => api.admin.domain.create({ name: 'ours' }));
  project = (await superadmin((api) => api.admin.project.create({ name: 'lab', domain: 'ours' }))).id;
  admin = (await addMember(world, 'ours', 'admin')).actor;
  user = (await addMember(world, 'ours')).actor;
  above = (await addMember(world, 'ours', 'superadmin')).actor;
  plainKey = (await superadmin((api) => api.admin.keypair.create({ user: above.email }))).keypair.accessKey;
  const input = { image: 'python', name: 'high', domain: 'ours', project: 'lab', environ: { TOKEN: 'x' } };
  const made = await apiOf(world, above)((api) => api.session.create({ ...input, bootstrapScript: 'login x' }));
  session = made.session.id;
  await world.until(session, 'RUNNING');
});
afterAll(() => world.close());

const outcome = (actor: UserActor, call: (api: ApiCaller) => Promise<unknown>): Promise<'refused' | 'let in'> =>
  apiOf(
    world,
    actor,
  )(call).then(
    () => 'let in',
    (error: unknown) => {
      if (hasCode(error, 'forbidden', 'impersonation-forbidden')) return 'refused';
      throw error;
    },
  );

describe('key pairs of a superadmin', () => {
  it('are not acted for by an administrator of the domain, whatever rights they carry', async () => {
    const { keypairs } = world.manager.services;
    for (const key of [above.accessKey, plainKey])
      await expect(keypairs.actFor(admin, key)).rejects.toMatchObject({ code: 'impersonation-forbidden' });
    expect(await keypairs.actFor(world.admin, plainKey)).toMatchObject({ userId: above.userId, role: 'user' });
  });

  it('stand for each other as far as their own rights reach', async () => {
    const { keypairs } = world.manager.services;
    const plain = (await keypairs.find(plainKey))!.actor;
    const { keypair } = await apiOf(world, above)((api) => api.admin.keypair.create({ user: above.email }));
    expect(await keypairs.actFor(plain, keypair.accessKey)).toMatchObject({ userId: above.userId, role: 'user' });
    await expect(keypairs.actFor(plain, above.accessKey)).rejects.toMatchObject({ code: 'impersonation-forbidden' });
  });
});

/** Actions that administrators have within their domain and that are about no user. */
const aboutNobody: readonly Action[] = [
  'session:create',
  'dotfile:modify-shared',
  ...(['domain:read', 'project:read', 'project:create', 'project:modify', 'project:delete', 'project:purge'] as const),
];

describe('things of a superadmin', () => {
  const seen: Readonly<Record<string, (api: ApiCaller) => Promise<unknown>>> = {
    'session:read': (api) => api.session.get({ session }),
    'usage:read': (api) => api.usage.report({ from: '2026-11-01T00:00:00Z' }),
    'user:read': (api) => api.admin.user.get({ user: above.email }),
    'keypair:read': (api) => api.admin.keypair.get({ accessKey: plainKey }),
    'audit:read': (api) => api.admin.audit.list({}),
  };
  const kept: typeof seen = {
    'account:impersonate': () => world.manager.services.keypairs.actFor(admin, plainKey),
    'session:use': (api) => api.session.execute({ session, mode: 'query', code: 'print(1)' }),
    'session:destroy': (api) => api.session.destroy({ session }),
    'session:restart': (api) => api.session.restart({ session }),
    'session:pause': (api) => api.session.pause({ session }),
    'session:commit': (api) => api.session.commit({ session, image: 'mine' }),
    'session:rename': (api) => api.session.rename({ session, name: 'mine' }),
    'user:create': (api) => api.admin.user.create({ email: 'root@ours.test', role: 'superadmin' }),
    'user:modify': (api) => api.admin.user.modify({ user: above.email, fullName: 'x' }),
    'user:delete': (api) => api.admin.user.delete({ user: above.email }),
    'user:purge': (api) => api.admin.user.purge({ user: above.email }),
    'keypair:create': (api) => api.admin.keypair.create({ user: above.email }),
    'keypair:modify': (api) => api.admin.keypair.modify({ accessKey: plainKey, isActive: false }),
    'keypair:delete': (api) => api.admin.keypair.delete({ accessKey: plainKey }),
  };

  it('are seen by an administrator of their domain, and neither used nor changed', async () => {
    const withinDomain = (Object.keys(actions) as Action[]).filter((one) => extentOf('admin', one) === 'domain');
    expect(Object.keys({ ...seen, ...kept }).sort()).toEqual(
      withinDomain.filter((one) => !aboutNobody.includes(one)).sort(),
    );
    for (const [action, call] of Object.entries(seen))
      expect([action, await outcome(admin, call)]).toEqual([action, 'let in']);
    for (const [action, call] of Object.entries(kept))
      expect([action, await outcome(admin, call)]).toEqual([action, 'refused']);
    for (const call of [
      (api: ApiCaller) => api.session.logs({ session }),
      (api: ApiCaller) => api.session.listFiles({ session }),
      (api: ApiCaller) => api.session.interrupt({ session }),
    ])
      expect(await outcome(admin, call)).toBe('refused');
  });

  it('show their secrets to their owner and to other superadmins', async () => {
    const get = (actor: UserActor) => apiOf(world, actor)((api) => api.session.get({ session }));
    expect(await get(admin)).toMatchObject({ name: 'high', environ: {}, bootstrapScript: null });
    for (const actor of [above, world.admin])
      expect(await get(actor)).toMatchObject({ environ: { TOKEN: 'x' }, bootstrapScript: 'login x' });
  });
});

describe('limits', () => {
  it('that superadmins set are not lifted by administrators of domains', async () => {
    const { accessKey, email } = user;
    const limited = { resourcePolicy: 'default' };
    for (const call of [
      (api: ApiCaller) => api.admin.keypair.create({ user: email, ...limited }),
      (api: ApiCaller) => api.admin.keypair.create({ user: email, rateLimit: 0 }),
      (api: ApiCaller) => api.admin.keypair.modify({ accessKey, ...limited }),
      (api: ApiCaller) => api.admin.keypair.modify({ accessKey, rateLimit: 0 }),
      (api: ApiCaller) => api.admin.user.create({ email: 'free@ours.test', ...limited }),
      (api: ApiCaller) => api.admin.user.modify({ user: email, ...limited }),
      (api: ApiCaller) => api.admin.project.create({ name: 'free', ...limited }),
      (api: ApiCaller) => api.admin.project.create({ name: 'free', totalResourceSlots: {} }),
      (api: ApiCaller) => api.admin.project.modify({ project, ...limited }),
      (api: ApiCaller) => api.admin.project.modify({ project, totalResourceSlots: {} }),
    ])
      expect([call.toString(), await outcome(admin, call)]).toEqual([call.toString(), 'refused']);
    await apiOf(world, world.admin)((api) => api.admin.keypair.modify({ accessKey, rateLimit: 7 }));
    await apiOf(world, admin)((api) => api.admin.keypair.modify({ accessKey, isActive: true }));
    expect((await world.manager.services.keypairs.find(accessKey))?.rateLimit).toBe(7);
  });
});

describe('a role that changes', () => {
  it('gives its rights to the main key pair alone, and takes them from all', async () => {
    const superadmin = apiOf(world, world.admin);
    const { actor } = await addMember(world, 'ours');
    const main = actor.accessKey;
    const add = (isAdmin: boolean) => superadmin((api) => api.admin.keypair.create({ user: actor.email, isAdmin }));
    const [plain, other] = [(await add(false)).keypair.accessKey, (await add(true)).keypair.accessKey];
    const roles = async () => {
      const found = await Promise.all([main, plain, other].map((key) => world.manager.services.keypairs.find(key)));
      return found.map((keypair) => keypair?.actor.role);
    };
    const become = (role: 'user' | 'admin' | 'superadmin') =>
      superadmin((api) => api.admin.user.modify({ user: actor.email, role }));
    await become('admin');
    expect(await roles()).toEqual(['admin', 'user', 'admin']);
    await become('superadmin');
    expect(await roles()).toEqual(['superadmin', 'user', 'superadmin']);
    await become('user');
    await become('admin');
    expect(await roles()).toEqual(['admin', 'user', 'user']);
  });
});
