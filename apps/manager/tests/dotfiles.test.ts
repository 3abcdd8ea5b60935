import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { addMember, apiOf, createTenants } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

/** What sessions begin with: files in the home folder, and a script. */

let world: World;
let agent: FakeAgent;

beforeAll(async () => {
  world = await createWorld();
  agent = await world.addAgent('i-one');
});
afterAll(() => world.close());

const as = (requestId: string = newId()) => apiOf(world, world.admin, requestId);
const file = (path: string, content = 'x', permission = '644') => ({ path, content, permission });
const specOf = async (input: Parameters<World['create']>[0] = {}) => {
  const { id } = await world.create(input);
  const { kernels } = await world.until(id, 'RUNNING');
  const { spec } = agent.kernels.get(kernels[0]!.id)!;
  await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
  return spec;
};

describe('dotfiles', () => {
  it('are in sessions that start after they were made, changed or deleted', async () => {
    expect((await specOf()).dotfiles).toBeUndefined();
    await as()((api) => api.dotfile.create(file('.vimrc', 'set nu', '600')));
    await as()((api) => api.dotfile.create(file('bin/hello', '#!/bin/sh', '755')));
    expect((await specOf()).dotfiles).toEqual([
      { path: '.vimrc', mode: '600', content: 'set nu' },
      { path: 'bin/hello', mode: '755', content: '#!/bin/sh' },
    ]);
    await as()((api) => api.dotfile.modify(file('.vimrc', 'set nonu')));
    await as()((api) => api.dotfile.delete({ path: 'bin/hello' }));
    expect((await specOf()).dotfiles).toEqual([{ path: '.vimrc', mode: '644', content: 'set nonu' }]);
    expect(await as()((api) => api.dotfile.list())).toEqual([file('.vimrc', 'set nonu')]);
    await as()((api) => api.dotfile.delete({ path: '.vimrc' }));
  });

  it('are of one key pair', async () => {
    const { actor } = await addMember(world, 'default');
    await apiOf(world, actor)((api) => api.dotfile.create(file('.mine')));
    expect(await as()((api) => api.dotfile.list())).toEqual([]);
    expect((await specOf()).dotfiles).toBeUndefined();
    for (const call of [
      () => as()((api) => api.dotfile.get({ path: '.mine' })),
      () => as()((api) => api.dotfile.modify(file('.mine'))),
      () => as()((api) => api.dotfile.delete({ path: '.mine' })),
    ])
      await expect(call()).rejects.toMatchObject({ code: 'object-not-found' });
  });

  it('have a place of their own, and a limit in number and bytes', async () => {
    await as()((api) => api.dotfile.create(file('a/b')));
    await expect(as()((api) => api.dotfile.create(file('a/b')))).rejects.toMatchObject({ code: 'object-exists' });
    for (const path of ['.ssh', '.ssh/authorized_keys', '.config', '/etc/passwd', '../up', 'a//b', 'a', 'a/b/c', ''])
      await expect(as()((api) => api.dotfile.create(file(path)))).rejects.toMatchObject({ code: 'invalid-input' });
    for (const permission of ['888', '0644', 'rw-'])
      await expect(as()((api) => api.dotfile.create(file('c', 'x', permission)))).rejects.toMatchObject({
        code: 'invalid-input',
      });
    // Two bytes each: one more with them than there may be in all.
    await expect(as()((api) => api.dotfile.create(file('c', 'é'.repeat(32 * 1024))))).rejects.toMatchObject({
      data: { fields: { content: expect.stringContaining('65536') } },
    });
    const made = await Promise.allSettled(
      Array.from({ length: 101 }, (_, at) => as()((api) => api.dotfile.create(file(`many/${at}`, '')))),
    );
    expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(99);
    for (const { path } of await as()((api) => api.dotfile.list())) await as()((api) => api.dotfile.delete({ path }));
  });

  it('are in the audit log without what they contain', async () => {
    await as('dotfile-made')((api) => api.dotfile.create(file('.netrc', 'password hunter2', '600')));
    await expect(as('dotfile-again')((api) => api.dotfile.create(file('.netrc')))).rejects.toThrow();
    const rows = async (requestId: string) =>
      (await as()((api) => api.admin.audit.list({ requestId }))).items.map(({ action, outcome, changes, target }) => ({
        action,
        outcome,
        changes,
        target: target.id,
      }));
    const row = { action: 'dotfile:modify', target: '.netrc' };
    expect(await rows('dotfile-made')).toEqual([
      { ...row, outcome: 'done', changes: { create: { permission: '600' } } },
    ]);
    expect(await rows('dotfile-again')).toMatchObject([{ ...row, outcome: 'failed' }]);
    await as()((api) => api.dotfile.delete({ path: '.netrc' }));
  });
});

describe('dotfiles of domains and projects', () => {
  const domain = { domain: 'default' };
  const project = { project: 'default' };

  it('are in the sessions of each, and give way to those of the project, and these to those of the key pair', async () => {
    for (const [owner, names] of [
      [domain, ['.a', '.b', '.c', '.d/e']],
      [project, ['.b', '.c']],
      [undefined, ['.c', '.d']],
    ] as const)
      for (const path of names) {
        const content = owner ? Object.keys(owner)[0]! : 'keypair';
        await as()((api) => api.dotfile.create({ ...file(path, content), ...(owner ? { owner } : {}) }));
      }
    expect((await specOf()).dotfiles?.map(({ path, content }) => [path, content])).toEqual([
      ['.a', 'domain'],
      ['.b', 'project'],
      ['.c', 'keypair'],
      ['.d', 'keypair'],
    ]);
    for (const owner of [domain, project, undefined])
      for (const { path } of await as()((api) => api.dotfile.list(owner ? { owner } : {})))
        await as()((api) => api.dotfile.delete({ path, ...(owner ? { owner } : {}) }));
    expect((await specOf()).dotfiles).toBeUndefined();
  });

  it('are not in sessions of others', async () => {
    await as()((api) => api.admin.domain.create({ name: 'apart' }));
    await as()((api) => api.admin.project.create({ name: 'apart', domain: 'apart' }));
    for (const owner of [{ domain: 'apart' }, { project: 'apart', domain: 'apart' }])
      await as()((api) => api.dotfile.create({ ...file('.apart'), owner }));
    expect((await specOf()).dotfiles).toBeUndefined();
  });

  it('reach no session of a superadmin unless a superadmin wrote them', async () => {
    const { actor: admin } = await addMember(world, 'default', 'admin');
    const { actor: user } = await addMember(world, 'default');
    const users = [user.email];
    await as()((api) => api.admin.project.addMembers({ project: 'default', domain: 'default', users }));
    const paths = async (who = world.admin) => {
      const { session } = await apiOf(world, who)((api) => api.session.create({ image: 'python' }));
      const { kernels } = await world.until(session.id, 'RUNNING');
      return agent.kernels.get(kernels[0]!.id)!.spec.dotfiles?.map(({ path }) => path);
    };
    await apiOf(world, admin)((api) => api.dotfile.create({ ...file('.planted'), owner: domain }));
    await as()((api) => api.dotfile.create({ ...file('.profile'), owner: domain }));
    expect(await paths(user)).toEqual(['.planted', '.profile']);
    expect(await paths()).toEqual(['.profile']);
    await apiOf(world, admin)((api) => api.dotfile.modify({ ...file('.profile'), owner: domain }));
    expect(await paths()).toBeUndefined();
    for (const path of ['.planted', '.profile']) await as()((api) => api.dotfile.delete({ path, owner: domain }));
    await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 20_000));
  });

  it('each have a limit of their own', async () => {
    const big = (owner: object | undefined) =>
      as()((api) => api.dotfile.create({ ...file('.big', 'x'.repeat(65_536)), ...(owner ? { owner } : {}) } as never));
    for (const owner of [domain, project, undefined]) await big(owner);
    expect((await specOf()).dotfiles).toHaveLength(1);
    await expect(as()((api) => api.dotfile.create({ ...file('.more'), owner: domain }))).rejects.toMatchObject({
      code: 'invalid-input',
    });
    for (const owner of [domain, project, undefined])
      await as()((api) => api.dotfile.delete({ path: '.big', ...(owner ? { owner } : {}) }));
  });

  it('go with their owner', async () => {
    await as()((api) => api.admin.domain.create({ name: 'gone' }));
    await as()((api) => api.admin.project.create({ name: 'gone', domain: 'gone' }));
    const ofProject = { project: 'gone', domain: 'gone' };
    for (const owner of [{ domain: 'gone' }, ofProject])
      await as()((api) => api.dotfile.create({ ...file('.x'), owner }));
    await as()((api) => api.admin.project.purge(ofProject));
    await expect(as()((api) => api.dotfile.list({ owner: ofProject }))).rejects.toMatchObject({
      code: 'object-not-found',
    });
    await as()((api) => api.admin.domain.purge({ name: 'gone' }));
    const [left] = await world.database.db.execute(sql`select 1 from dotfiles where path = '.x'`);
    expect(left).toBeUndefined();
  });

  it('are seen by members, changed by administrators of the domain, and unknown to others', async () => {
    const tenants = await createTenants(world);
    await as()((api) => api.admin.project.create({ name: 'shared', domain: 'ours' }));
    const users = [tenants.user.email];
    await as()((api) => api.admin.project.addMembers({ project: 'shared', domain: 'ours', users }));
    const ofProject = { project: 'shared', domain: 'ours' };
    for (const [owner, outsiders] of [
      [{ domain: 'ours' }, [tenants.foreignAdmin]],
      [ofProject, [tenants.foreignAdmin, tenants.neighbour]],
    ] as const) {
      await apiOf(world, tenants.ownAdmin)((api) => api.dotfile.create({ ...file('.ours'), owner }));
      expect(await apiOf(world, tenants.user)((api) => api.dotfile.list({ owner }))).toEqual([file('.ours')]);
      const outcomes = async (who: typeof tenants.user) =>
        await Promise.all(
          [
            apiOf(world, who)((api) => api.dotfile.get({ path: '.ours', owner })),
            apiOf(world, who)((api) => api.dotfile.create({ ...file('.new'), owner })),
            apiOf(world, who)((api) => api.dotfile.modify({ ...file('.ours'), owner })),
            apiOf(world, who)((api) => api.dotfile.delete({ path: '.ours', owner })),
          ].map((call) =>
            call.then(
              () => 'done',
              (error: { code: string }) => error.code,
            ),
          ),
        );
      expect(await outcomes(tenants.user)).toEqual(['done', 'forbidden', 'forbidden', 'forbidden']);
      for (const who of outsiders)
        expect(await outcomes(who)).toEqual(Array.from({ length: 4 }, () => 'object-not-found'));
    }
    const { items } = await apiOf(
      world,
      tenants.ownAdmin,
    )((api) => api.admin.audit.list({ targetKind: 'dotfile', targetId: '.ours' }));
    const made = { action: 'dotfile:modify-shared', outcome: 'done', userId: tenants.ownAdmin.userId };
    expect(items.filter(({ outcome }) => outcome === 'done')).toMatchObject([
      { ...made, changes: { owner: ofProject } },
      { ...made, changes: { owner: { domain: 'ours' } } },
    ]);
  });
});

describe('the stored bootstrap script', () => {
  it('is that of sessions which name none', async () => {
    await as()((api) => api.dotfile.setBootstrapScript({ script: 'echo stored' }));
    expect(await as()((api) => api.dotfile.bootstrapScript())).toEqual({ script: 'echo stored' });
    expect((await specOf()).bootstrap).toMatchObject({ script: 'echo stored' });
    expect((await specOf({ bootstrapScript: 'echo own' })).bootstrap).toMatchObject({ script: 'echo own' });
    await as()((api) => api.dotfile.setBootstrapScript({ script: '' }));
    expect((await specOf()).bootstrap).toBeUndefined();
    expect(await as()((api) => api.dotfile.bootstrapScript())).toEqual({ script: '' });
  });
});
