import type { SessionTemplateView } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { actor, FakeWorld, TestServer } from './http-world.ts';

/** Session templates as official clients ask for them. */

const template: SessionTemplateView = {
  id: '0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee',
  name: 'training',
  userId: actor.userId,
  domain: 'default',
  project: 'research',
  createdAt: '2025-01-01T00:00:00.000Z',
  template: { kind: 'task_template' },
  session: {
    image: 'python',
    type: 'batch',
    startupCommand: 'python train.py',
    tag: 'nightly',
    project: 'research',
    resources: { cpu: '1' },
    environ: { A: 'B' },
  },
};
const hex = template.id.replaceAll('-', '');

let world: FakeWorld;
let server: TestServer;
let asked: unknown[] = [];

beforeAll(async () => {
  world = new FakeWorld();
  const find = (ref: string): SessionTemplateView => {
    if (ref !== hex) throw new AppError('object-not-found', 'No.');
    return template;
  };
  world.sessionTemplate = {
    list: async () => [template],
    get: async (input) => find(input.template),
    create: async (input) => {
      asked.push(input);
      return [template];
    },
    modify: async (input) => {
      asked.push(input);
      return find(input.template);
    },
    delete: async (input) => void find(input.template),
  };
  server = await TestServer.start(world);
});
afterAll(() => server.close());
beforeEach(() => {
  asked = [];
  world.calls.length = 0;
});

test('they are made from texts; clients of 23.03 read one object, later ones a list', async () => {
  const body = { payload: 'kind: x', group_name: 'research' };
  const made = { id: hex, user: actor.userId.replaceAll('-', '') };
  const post = (agent: string) =>
    server.request('/template/session', { method: 'POST', body, headers: { 'user-agent': agent } });
  expect((await post('Backend.AI Client for Python 23.09.1')).json).toEqual([made]);
  expect((await post('Backend.AI Client for Python 23.03.12')).json).toEqual(made);
  expect(asked[0]).toEqual({ payload: 'kind: x', project: 'research', domain: 'default' });
  const nothing = await server.request('/template/session', { method: 'POST', body: {} });
  expect([nothing.status, nothing.json.data]).toEqual([400, { payload: 'is required' }]);
});

test('they are listed, shown, changed and deleted', async () => {
  expect((await server.request('/template/session')).json).toMatchObject([
    { name: 'training', id: hex, is_owner: true, group_name: 'research', domain_name: 'default' },
  ]);
  expect((await server.request(`/template/session/${hex}?format=yaml`)).json).toMatchObject({
    name: 'training',
    template: { kind: 'task_template' },
  });
  const put = await server.request(`/template/session/${hex}`, { method: 'PUT', body: { payload: 'kind: y' } });
  expect(put.json).toEqual({ success: true });
  expect(asked).toEqual([{ template: hex, payload: 'kind: y' }]);
  expect((await server.request(`/template/session/${hex}`, { method: 'DELETE' })).json).toEqual({ success: true });
  expect((await server.request('/template/session/absent')).status).toBe(404);
});

test('a session is made of one; what is given stands in its place', async () => {
  const create = (body: object) =>
    server.request('/session/_/create-from-template', { method: 'POST', body: { enqueueOnly: true, ...body } });
  const answer = await create({
    template_id: hex,
    name: 'made',
    tag: 'other',
    bootstrap_script: null,
    config: { mounts: [], environ: { C: 'D' } },
  });
  expect(answer.status).toBe(201);
  expect(world.last('create').input).toMatchObject({
    name: 'made',
    image: 'python',
    type: 'batch',
    startupCommand: 'python train.py',
    tag: 'other',
    project: 'research',
    resources: { cpu: '1' },
    environ: { C: 'D' },
  });
  expect((await create({ name: 'made', template_id: 'absent' })).status).toBe(404);
  expect((await create({ name: 'made' })).status).toBe(400);
  await create({ name: 'plain', template_id: null, image: 'python' });
  expect(world.last('create').input).toMatchObject({ name: 'plain', type: 'interactive' });
});
