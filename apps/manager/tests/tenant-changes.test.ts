import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { UserRepository } from '../src/repositories/users.ts';
import { type ApiCaller, addMember, apiOf, createTenants, type Tenants } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let tenants: Tenants;

beforeAll(async () => {
  world = await createWorld();
  const agent = await world.addAgent('i-one');
  // Sessions stay where they are: live.
  agent.behaviour = 'stall';
  tenants = await createTenants(world);
});
afterAll(() => world.close());

const as = (who: keyof Tenants, requestId?: string) => apiOf(world, tenants[who], requestId);
const failure = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => ({ code: 'none' }),
    (thrown: { code: string }) => thrown,
  );
  return error.code;
};

describe('attempts that are refused', () => {
  it('are in the log with who made them and what they were about', async () => {
    const { user, superadmin } = tenants;
    const attempts: ReadonlyArray<[keyof Tenants, string, string, (api: ApiCaller) => Promise<unknown>]> = [
      ['foreignAdmin', 'user:modify', user.email, (api) => api.admin.user.modify({ user: user.email, fullName: 'x' })],
      ['foreignAdmin', 'user:purge', user.email, (api) => api.admin.user.purge({ user: user.email })],
      ['ownAdmin', 'user:create', '', (api) => api.admin.user.create({ email: 'a@b.test', role: 'superadmin' })],
      ['foreignAdmin', 'user:create', '', (api) => api.admin.user.create({ email: 'a@b.test', domain: 'ours' })],
      ['foreignAdmin', 'keypair:create', '', (api) => api.admin.keypair.create({ user: user.email })],
      [
        'foreignAdmin',
        'keypair:delete',
        user.accessKey,
        (api) => api.admin.keypair.delete({ accessKey: user.accessKey }),
      ],
      ['foreignAdmin', 'project:create', '', (api) => api.admin.project.create({ name: 'x', domain: 'ours' })],
      ['ownAdmin', 'project:purge', 'nowhere', (api) => api.admin.project.purge({ project: 'nowhere' })],
      ['superadmin', 'domain:modify', 'nowhere', (api) => api.admin.domain.modify({ name: 'nowhere' })],
    ];
    for (const [at, [who, action, targetId, call]] of attempts.entries()) {
      const requestId = `refused-${at}`;
      const errorCode = await failure(as(who, requestId)(call));
      expect(['forbidden', 'object-not-found']).toContain(errorCode);
      const { items } = await apiOf(world, superadmin)((api) => api.admin.audit.list({ requestId }));
      const { accessKey } = tenants[who];
      expect([action, items]).toMatchObject([action, [{ action, accessKey, outcome: 'failed', errorCode }]]);
      if (targetId !== '') expect(items[0]?.target.id).toBe(targetId);
    }
  });
});

describe('passwords', () => {
  it('are tried one at a time by their user', async () => {
    const { actor } = await addMember(world, 'ours');
    const self = apiOf(world, actor);
    const change = (newPassword: string, oldPassword?: string) =>
      self((api) => api.admin.user.changePassword({ newPassword, oldPassword }));
    await change('the first one');
    const codes = await Promise.all([1, 2].map(() => failure(change('another one', 'a wrong one'))));
    expect(codes.sort()).toEqual(['invalid-input', 'rate-limited']);
    await change('another one', 'the first one');
  });
});

describe('what has live sessions', () => {
  it('is not made inactive by a modification either', async () => {
    const superadmin = as('superadmin');
    await superadmin((api) => api.admin.domain.create({ name: 'busy' }));
    await superadmin((api) => api.admin.project.create({ name: 'lab', domain: 'busy' }));
    const { actor } = await addMember(world, 'busy');
    const lab = { project: 'lab', domain: 'busy' };
    await superadmin((api) => api.admin.project.addMembers({ ...lab, users: [actor.email] }));
    const session = { image: 'python', name: 'still-here', ...lab };
    await apiOf(world, actor)((api) => api.session.create(session));
    const closeDomain = () => superadmin((api) => api.admin.domain.modify({ name: 'busy', isActive: false }));
    const closeProject = () => superadmin((api) => api.admin.project.modify({ ...lab, isActive: false }));
    expect([await failure(closeDomain()), await failure(closeProject())]).toEqual(['has-sessions', 'has-sessions']);
    await apiOf(world, actor)((api) => api.session.destroy({ session: 'still-here', forced: true }));
    expect([(await closeDomain()).isActive, (await closeProject()).isActive]).toEqual([false, false]);
  });
});

describe('many members', () => {
  it('are found at once, by id or address, and one who is not there is named', async () => {
    const superadmin = as('superadmin');
    await superadmin((api) => api.admin.project.create({ name: 'many', domain: 'ours' }));
    const many = { project: 'many', domain: 'ours' };
    const { user, neighbour, foreignAdmin } = tenants;
    const users = [user.userId, neighbour.email.toUpperCase(), user.email];
    const oneByOne = vi.spyOn(UserRepository.prototype, 'find');
    const added = await superadmin((api) => api.admin.project.addMembers({ ...many, users }));
    const removed = await superadmin((api) => api.admin.project.removeMembers({ ...many, users: [user.email] }));
    const asked = oneByOne.mock.calls.length;
    oneByOne.mockRestore();
    expect([added.members, removed.members, asked]).toEqual([2, 1, 0]);
    for (const stranger of [foreignAdmin.email, 'nobody@ours.test'])
      await expect(
        superadmin((api) => api.admin.project.addMembers({ ...many, users: [user.email, stranger] })),
      ).rejects.toMatchObject({ code: 'object-not-found', message: expect.stringContaining(stranger) });
  });
});

describe('a tenant that goes', () => {
  it('leaves nothing of its limits behind', async () => {
    const superadmin = as('superadmin');
    const { db } = world.database;
    await superadmin((api) => api.admin.domain.create({ name: 'gone' }));
    const { id } = await superadmin((api) => api.admin.project.create({ name: 'lab', domain: 'gone' }));
    const { actor } = await addMember(world, 'gone');
    const extra = await superadmin((api) => api.admin.keypair.create({ user: actor.email }));
    const keys = [actor.accessKey, extra.keypair.accessKey];
    const scopes = [
      ...keys.flatMap((key) => [`keypair:${key}`, `queue:${key}`]),
      ...[`user:${actor.userId}`, `project:${id}`, 'domain:gone', 'domain:ours'],
    ];
    for (const scope of scopes) await db.execute(sql`insert into quota_turns (scope) values (${scope})`);
    const left = async () =>
      (await db.execute<{ scope: string }>(sql`select scope from quota_turns`)).map(({ scope }) => scope);
    await superadmin((api) => api.admin.keypair.delete({ accessKey: extra.keypair.accessKey }));
    expect(await left()).toHaveLength(scopes.length - 2);
    await superadmin((api) => api.admin.user.purge({ user: actor.email }));
    await superadmin((api) => api.admin.project.purge({ project: id }));
    await superadmin((api) => api.admin.domain.purge({ name: 'gone' }));
    expect(await left()).toEqual(['domain:ours']);
  });
});
