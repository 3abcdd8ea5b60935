import { collectLogs } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isPassword } from '../src/services/tenancy/password.ts';
import { addMember, apiOf, createTenants, type Tenants } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let tenants: Tenants;
const logs = collectLogs('manager');

beforeAll(async () => {
  world = await createWorld({ logger: logs.logger, config: { keypairCacheMs: 3_600_000 } });
  const agent = await world.addAgent('i-one');
  // Sessions stay where they are: live.
  agent.behaviour = 'stall';
  tenants = await createTenants(world);
});
afterAll(() => world.close());

const as = (who: keyof Tenants) => apiOf(world, tenants[who]);
const works = async (accessKey: string) => (await world.manager.services.keypairs.find(accessKey)) !== undefined;

describe('users', () => {
  it('come with a key pair that works, whose secret is told once', async () => {
    const made = await as('ownAdmin')((api) =>
      api.admin.user.create({ email: 'New@Ours.test', password: 'correct horse', fullName: 'New One' }),
    );
    expect(made.user).toMatchObject({
      email: 'new@ours.test',
      username: 'new@ours.test',
      domain: 'ours',
      role: 'user',
      status: 'active',
      hasPassword: true,
      mainAccessKey: made.keypair.accessKey,
    });
    const keypair = await world.manager.services.keypairs.find(made.keypair.accessKey);
    expect(keypair?.secretKey).toBe(made.secretKey);
    const seen = await as('ownAdmin')((api) => api.admin.keypair.get({ accessKey: made.keypair.accessKey }));
    expect(JSON.stringify(seen)).not.toContain(made.secretKey);
    await expect(as('superadmin')((api) => api.admin.user.create({ email: 'new@ours.test' }))).rejects.toMatchObject({
      code: 'object-exists',
    });
  });

  it('change their own passwords with the old one, which is kept as a hash', async () => {
    const { actor } = await addMember(world, 'ours');
    const self = apiOf(world, actor);
    await self((api) => api.admin.user.changePassword({ newPassword: 'first password' }));
    await expect(
      self((api) => api.admin.user.changePassword({ newPassword: 'second password' })),
    ).rejects.toMatchObject({
      code: 'invalid-input',
      data: { fields: { oldPassword: 'is wrong' } },
    });
    await self((api) =>
      api.admin.user.changePassword({ oldPassword: 'first password', newPassword: 'second password' }),
    );
    const [row] = await world.database.db.execute<{ hash: string }>(
      sql`select password_hash as hash from users where id = ${actor.userId}::uuid`,
    );
    expect(row?.hash).toMatch(/^scrypt\$15\$8\$1\$/);
    expect(await isPassword('second password', row?.hash ?? '')).toBe(true);
    expect(await isPassword('first password', row?.hash ?? '')).toBe(false);
    expect(await isPassword('second password', 'no hash')).toBe(false);
  });

  it('of a domain are not for administrators of another one, and superadmins for superadmins only', async () => {
    const { user, superadmin } = tenants;
    const foreign = as('foreignAdmin');
    await expect(foreign((api) => api.admin.user.get({ user: user.email }))).rejects.toMatchObject({
      code: 'object-not-found',
    });
    await expect(foreign((api) => api.admin.user.modify({ user: user.userId, fullName: 'x' }))).rejects.toMatchObject({
      code: 'object-not-found',
    });
    await expect(foreign((api) => api.admin.user.create({ email: 'a@b.test', domain: 'ours' }))).rejects.toMatchObject({
      code: 'forbidden',
    });
    const above = await addMember(world, 'ours', 'superadmin');
    const own = as('ownAdmin');
    for (const change of [
      () => own((api) => api.admin.user.modify({ user: above.actor.email, fullName: 'x' })),
      () => own((api) => api.admin.user.delete({ user: above.actor.email })),
      () => own((api) => api.admin.keypair.modify({ accessKey: above.actor.accessKey, isActive: false })),
      () => own((api) => api.admin.keypair.create({ user: above.actor.email, isAdmin: true })),
      () => own((api) => api.admin.user.modify({ user: user.email, role: 'superadmin' })),
      () => own((api) => api.admin.user.create({ email: 'root@ours.test', role: 'superadmin' })),
      () => own((api) => api.admin.user.modify({ user: user.email, domain: 'theirs' })),
    ])
      await expect(change()).rejects.toMatchObject({ code: 'forbidden' });
    expect((await own((api) => api.admin.user.list({}))).items.map(({ domain }) => domain)).not.toContain('theirs');
    expect(await as('user')((api) => api.admin.user.list({}))).toMatchObject({
      total: 1,
      items: [{ id: user.userId }],
    });
    expect(superadmin.domain).toBe('default');
    await as('superadmin')((api) => api.admin.user.purge({ user: above.actor.email }));
  });

  it('get rights with a role, and key pairs follow', async () => {
    const { actor } = await addMember(world, 'ours');
    const promote = (role: 'admin' | 'user') =>
      as('ownAdmin')((api) => api.admin.user.modify({ user: actor.email, role }));
    await promote('admin');
    const { find } = { find: (key: string) => world.manager.services.keypairs.find(key) };
    expect((await find(actor.accessKey))?.actor.role).toBe('admin');
    const plain = await as('ownAdmin')((api) => api.admin.keypair.create({ user: actor.email }));
    expect((await find(plain.keypair.accessKey))?.actor.role).toBe('user');
    await promote('user');
    expect((await find(actor.accessKey))?.actor.role).toBe('user');
  });

  it('that are inactive, deleted, of an inactive domain or with an inactive key pair get in no more, at once', async () => {
    const admin = as('superadmin');
    await admin((api) => api.admin.domain.create({ name: 'closing' }));
    const make = async () => (await addMember(world, 'closing')).actor;
    const [inactive, deleted, keyless, last] = [await make(), await make(), await make(), await make()];
    await admin((api) => api.admin.user.modify({ user: inactive.email, status: 'inactive' }));
    await admin((api) => api.admin.user.delete({ user: deleted.email }));
    await admin((api) => api.admin.keypair.modify({ accessKey: keyless.accessKey, isActive: false }));
    expect(await Promise.all([inactive, deleted, keyless].map(({ accessKey }) => works(accessKey)))).toEqual([
      false,
      false,
      false,
    ]);
    expect(await works(last.accessKey)).toBe(true);
    await admin((api) => api.admin.domain.delete({ name: 'closing' }));
    expect(await works(last.accessKey)).toBe(false);
    await expect(admin((api) => api.admin.domain.purge({ name: 'closing' }))).rejects.toMatchObject({
      code: 'has-dependents',
      data: { users: 4, projects: 0 },
    });
    for (const user of [inactive, deleted, keyless, last])
      await admin((api) => api.admin.user.purge({ user: user.userId }));
    await admin((api) => api.admin.domain.purge({ name: 'closing' }));
  });
});

describe('the last superadmin', () => {
  it('can be neither demoted, deleted, deactivated nor left without a key pair, not even by two at once', async () => {
    const { email, accessKey } = tenants.superadmin;
    const admin = as('superadmin');
    for (const change of [
      () => admin((api) => api.admin.user.modify({ user: email, role: 'user' })),
      () => admin((api) => api.admin.user.modify({ user: email, status: 'inactive' })),
      () => admin((api) => api.admin.user.delete({ user: email })),
      () => admin((api) => api.admin.user.purge({ user: email })),
      () => admin((api) => api.admin.keypair.modify({ accessKey, isActive: false })),
      () => admin((api) => api.admin.keypair.modify({ accessKey, isAdmin: false })),
      () => admin((api) => api.admin.keypair.delete({ accessKey })),
      () => admin((api) => api.admin.domain.delete({ name: 'default' })),
    ])
      await expect(change()).rejects.toMatchObject({ code: 'last-superadmin' });
    const second = (await addMember(world, 'theirs', 'superadmin')).actor;
    const outcomes = await Promise.allSettled([
      admin((api) => api.admin.user.modify({ user: second.email, role: 'user' })),
      apiOf(world, second)((api) => api.admin.user.modify({ user: email, role: 'user' })),
    ]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    // Whoever is left restores what the other tests go by.
    if (outcomes[1]?.status === 'fulfilled')
      await apiOf(world, second)((api) => api.admin.user.modify({ user: email, role: 'superadmin' }));
    expect(await works(accessKey)).toBe(true);
  });
});

describe('projects', () => {
  it('have members of their domain, who see them and nothing else', async () => {
    const own = as('ownAdmin');
    const { id } = await as('superadmin')((api) =>
      api.admin.project.create({ name: 'genome', domain: 'ours', totalResourceSlots: { mem: '1g', cpu: '0' } }),
    );
    await own((api) => api.admin.project.create({ name: 'other' }));
    expect(await as('user')((api) => api.admin.project.list({}))).toMatchObject({ total: 0 });
    const added = await own((api) => api.admin.project.addMembers({ project: 'genome', users: [tenants.user.email] }));
    expect(added).toMatchObject({ id, members: 1, totalResourceSlots: { mem: '1073741824', cpu: '0' } });
    expect((await as('user')((api) => api.admin.project.list({}))).items.map(({ name }) => name)).toEqual(['genome']);
    await expect(as('user')((api) => api.admin.project.get({ project: 'other' }))).rejects.toMatchObject({
      code: 'object-not-found',
    });
    await expect(
      own((api) => api.admin.project.addMembers({ project: id, users: [tenants.foreignAdmin.email] })),
    ).rejects.toMatchObject({ code: 'object-not-found' });
    await expect(own((api) => api.admin.project.create({ name: 'genome' }))).rejects.toMatchObject({
      code: 'object-exists',
    });
    await expect(own((api) => api.admin.project.modify({ project: 'other', name: 'genome' }))).rejects.toMatchObject({
      code: 'object-exists',
    });
    await expect(
      as('superadmin')((api) =>
        api.admin.project.modify({ project: 'other', domain: 'ours', resourcePolicy: 'nowhere' }),
      ),
    ).rejects.toMatchObject({ code: 'object-not-found' });
    const left = await own((api) => api.admin.project.removeMembers({ project: id, users: [tenants.user.userId] }));
    expect(left.members).toBe(0);
  });
});

describe('a session whose project is not named', () => {
  it("is in its owner's domain and only project, or in the one called default, or is asked to name one", async () => {
    const own = as('ownAdmin');
    const { actor } = await addMember(world, 'ours');
    const create = (name: string) => apiOf(world, actor)((api) => api.session.create({ image: 'python', name }));
    await expect(create('homeless')).rejects.toMatchObject({
      code: 'invalid-input',
      data: { fields: { project: 'has to be named' } },
    });
    const join = async (name: string): Promise<void> => {
      const { id: project } = await own((api) => api.admin.project.create({ name }));
      await own((api) => api.admin.project.addMembers({ project, users: [actor.email] }));
    };
    await join('only-one');
    expect((await create('at-home')).session).toMatchObject({ domain: 'ours', project: 'only-one' });
    await join('another');
    await expect(create('undecided')).rejects.toMatchObject({ data: { fields: { project: 'has to be named' } } });
    await join('default');
    expect((await create('by-default')).session).toMatchObject({ project: 'default' });
    await apiOf(world, actor)((api) => api.session.destroy({ session: 'at-home' }));
    await apiOf(world, actor)((api) => api.session.destroy({ session: 'by-default' }));
  });
});

describe('what has live sessions', () => {
  it('is not deleted, and the answer names them', async () => {
    const own = as('ownAdmin');
    const { id: project } = await own((api) => api.admin.project.create({ name: 'busy' }));
    const { actor } = await addMember(world, 'ours');
    await own((api) => api.admin.project.addMembers({ project, users: [actor.email] }));
    const created = await apiOf(
      world,
      actor,
    )((api) => api.session.create({ image: 'python', name: 'still-here', project: 'busy', domain: 'ours' }));
    for (const change of [
      () => own((api) => api.admin.project.delete({ project })),
      () => own((api) => api.admin.project.purge({ project })),
      () => own((api) => api.admin.user.delete({ user: actor.email })),
      () => own((api) => api.admin.user.purge({ user: actor.email })),
      () => own((api) => api.admin.keypair.delete({ accessKey: actor.accessKey })),
      () => as('superadmin')((api) => api.admin.domain.delete({ name: 'ours' })),
    ])
      await expect(change()).rejects.toMatchObject({
        code: 'has-sessions',
        data: { count: 1, sessions: [{ id: created.session.id, name: 'still-here' }] },
      });
    expect(await works(actor.accessKey)).toBe(true);
  });
});

describe('acting for others', () => {
  it('is for administrators within their domain, never for a higher role, and is in the log', async () => {
    const { keypairs } = world.manager.services;
    const { user, ownAdmin, foreignAdmin, superadmin } = tenants;
    const owner = await keypairs.actFor(ownAdmin, user.accessKey);
    expect(owner).toMatchObject({ userId: user.userId, role: 'user', by: { userId: ownAdmin.userId } });
    expect(await keypairs.actFor(user, user.accessKey)).toBe(user);
    for (const [actor, key] of [
      [user, tenants.neighbour.accessKey],
      [foreignAdmin, user.accessKey],
      [ownAdmin, superadmin.accessKey],
      [user, 'AKIAUNKNOWN'],
    ] as const)
      await expect(keypairs.actFor(actor, key)).rejects.toMatchObject({ code: 'impersonation-forbidden' });
    await expect(keypairs.actFor(superadmin, 'AKIAUNKNOWN')).rejects.toMatchObject({ code: 'invalid-input' });
    const acting = await keypairs.actFor(superadmin, ownAdmin.accessKey);
    await apiOf(world, acting, 'req-for-other')((api) => api.admin.project.create({ name: 'by-proxy' }));
    const { items } = await as('superadmin')((api) => api.admin.audit.list({ requestId: 'req-for-other' }));
    expect(items).toMatchObject([
      { email: superadmin.email, accessKey: superadmin.accessKey, actingFor: ownAdmin.accessKey, outcome: 'done' },
    ]);
  });
});

describe('a key pair', () => {
  it('is as it was changed for the next call, however long key pairs are remembered', async () => {
    const { actor } = await addMember(world, 'ours');
    await as('superadmin')((api) => api.admin.keypair.modify({ accessKey: actor.accessKey, rateLimit: 7 }));
    expect((await world.manager.services.keypairs.find(actor.accessKey))?.rateLimit).toBe(7);
  });
});

describe('secrets', () => {
  it('are neither in the log of changes nor in log records', async () => {
    const secrets = ['a very secret password', 'another secret password'] as const;
    const made = await as('superadmin')((api) =>
      api.admin.user.create({ email: 'hidden@ours.test', domain: 'ours', password: secrets[0] }),
    );
    await as('superadmin')((api) => api.admin.user.modify({ user: 'hidden@ours.test', password: secrets[1] }));
    const rows = JSON.stringify([...(await world.database.db.execute(sql`select * from audit_log`))]);
    const written = JSON.stringify(logs.records);
    for (const secret of [...secrets, made.secretKey]) {
      expect(rows).not.toContain(secret);
      expect(written).not.toContain(secret);
    }
    expect(rows).toContain('hidden@ours.test');
  });
});
