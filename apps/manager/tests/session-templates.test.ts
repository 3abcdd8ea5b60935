import { createClient } from '@backend.ai/client';
import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addMember, apiOf } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

let world: World;

beforeAll(async () => {
  world = await createWorld({ http: { host: '127.0.0.1', port: 0 } });
  await world.addAgent('i-one');
});
afterAll(async () => {
  await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
  await world.close();
});

const payload = (name: string, image = 'python') => `
api_version: "6"
kind: task_template
metadata: { name: ${name}, tag: from-template }
spec:
  kernel: { image: ${image}, environ: { A: B } }
  resources: { cpu: 1 }
`;
const client = () =>
  createClient({
    endpoint: world.manager.addresses.api!,
    accessKey: world.admin.accessKey,
    secretKey: world.adminSecret,
  });

describe('session templates', () => {
  it('are stored, listed, changed and deleted, by id or name', async () => {
    const { sessionTemplates } = client();
    const [made] = await sessionTemplates.create({ payload: payload('first') });
    expect(made).toMatchObject({
      name: 'first',
      project: 'default',
      session: { image: 'python', tag: 'from-template' },
    });
    expect(await sessionTemplates.get('first')).toEqual(made);
    expect((await sessionTemplates.get(made!.id.replaceAll('-', ''))).id).toBe(made!.id);
    expect(await sessionTemplates.modify('first', payload('second'))).toMatchObject({ id: made!.id, name: 'second' });
    expect((await sessionTemplates.list()).map(({ name }) => name)).toEqual(['second']);
    await expect(sessionTemplates.create({ payload: 'kind: nothing' })).rejects.toMatchObject({
      code: 'invalid-input',
    });
    await sessionTemplates.delete('second');
    await expect(sessionTemplates.get(made!.id)).rejects.toMatchObject({ code: 'object-not-found' });
  });

  it('make sessions; what is given stands in place of what they say', async () => {
    const { sessionTemplates, sessions } = client();
    await sessionTemplates.create({ payload: payload('base') });
    const session = await sessions.createFromTemplate('base', { name: 'made-of-it', environ: { A: 'C' } });
    await session.waitUntilRunning();
    expect(await world.manager.services.api.session.get({ session: session.id }, world.ctx())).toMatchObject({
      name: 'made-of-it',
      tag: 'from-template',
      environ: { A: 'C' },
      requested: { cpu: '1' },
    });
    await expect(sessions.createFromTemplate('absent')).rejects.toMatchObject({ code: 'object-not-found' });
  });

  it('are of one user', async () => {
    const { actor } = await addMember(world, 'default');
    const [made] = await client().sessionTemplates.create({ payload: payload('mine') });
    const other = apiOf(world, actor);
    expect(await other((api) => api.sessionTemplate.list())).toEqual([]);
    const template = made!.id;
    for (const call of [
      () => other((api) => api.sessionTemplate.get({ template })),
      () => other((api) => api.sessionTemplate.modify({ template, payload: payload('theirs') })),
      () => other((api) => api.sessionTemplate.delete({ template })),
    ])
      await expect(call()).rejects.toMatchObject({ code: 'object-not-found' });
  });
});
