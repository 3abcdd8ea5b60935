import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { addMember, apiOf } from './tenancy-world.ts';
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
