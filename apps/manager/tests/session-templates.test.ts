import { createClient } from '@backend.ai/client';
import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { sql } from 'drizzle-orm';
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
const template = (name: string) => ({
  ...{ api_version: '6', kind: 'task_template', metadata: { name } },
  spec: { kernel: { image: 'python' } },
});
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

  it('have names of their own: none is stored twice, and of old ones with one name none is changed by name', async () => {
    const { sessionTemplates } = client();
    const taken = { code: 'object-exists', message: 'You have a session template "training" already.' };
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, () => sessionTemplates.create({ payload: payload('training') })),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject(taken);
    const list = JSON.stringify(['a', 'a'].map((name) => ({ ...template(name) })));
    await expect(sessionTemplates.create({ payload: list })).rejects.toMatchObject({ code: 'invalid-input' });
    await sessionTemplates.create({ payload: payload('other') });
    await expect(sessionTemplates.modify('other', payload('training'))).rejects.toMatchObject(taken);
    expect(await sessionTemplates.modify('training', payload('training'))).toMatchObject({ name: 'training' });

    await world.database.db.execute(sql`insert into session_templates
      (id, user_id, domain_name, project_name, name, template)
      select gen_random_uuid(), user_id, domain_name, project_name, name, template from session_templates
      where name = 'training'`);
    const several = { code: 'too-many-matches', message: '2 session templates are named "training".' };
    await expect(sessionTemplates.delete('training')).rejects.toMatchObject(several);
    await expect(sessionTemplates.modify('training', payload('training'))).rejects.toMatchObject(several);
    const [newest] = (await sessionTemplates.list()).filter(({ name }) => name === 'training');
    await sessionTemplates.delete(newest!.id);
    await sessionTemplates.delete('training');
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
