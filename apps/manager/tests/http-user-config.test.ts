import { type DotfileApi, type DotfileView, setBootstrapScriptSchema } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { FakeWorld, TestServer } from './http-world.ts';

/** Dotfiles and bootstrap scripts as official clients ask for them. */

let world: FakeWorld;
let server: TestServer;
let script: string;

beforeAll(async () => {
  world = new FakeWorld();
  world.dotfile = inMemory(new Map());
  server = await TestServer.start(world);
});
afterAll(() => server.close());
beforeEach(() => {
  script = '';
});

function inMemory(files: Map<string, DotfileView>): DotfileApi {
  const get = async ({ path }: { path: string }): Promise<DotfileView> => {
    const found = files.get(path);
    if (!found) throw new AppError('object-not-found', `There is no dotfile ${path}.`);
    return found;
  };
  return {
    list: async () => [...files.values()],
    get,
    create: async (file) => {
      if (files.has(file.path)) throw new AppError('object-exists', 'It is there.');
      files.set(file.path, file);
    },
    modify: async (file) => {
      await get(file);
      files.set(file.path, file);
    },
    delete: async ({ path }) => {
      await get({ path });
      files.delete(path);
    },
    bootstrapScript: async () => ({ script }),
    setBootstrapScript: async (input) => {
      script = setBootstrapScriptSchema.parse(input).script;
    },
  };
}

const url = '/user-config/dotfiles';
const vimrc = { path: '.vimrc', permission: '644', data: 'set nu' };

test('dotfiles are made, listed, shown, changed and deleted', async () => {
  expect((await server.request(url, { method: 'POST', body: vimrc })).json).toEqual({});
  expect((await server.request(url)).json).toEqual([vimrc]);
  const changed = { ...vimrc, data: 'set nonu', permission: '600' };
  expect((await server.request(url, { method: 'PATCH', body: changed })).json).toEqual({});
  expect((await server.request(`${url}?path=.vimrc`)).json).toEqual({
    path: '.vimrc',
    perm: '600',
    data: 'set nonu',
  });
  const twice = await server.request(url, { method: 'POST', body: vimrc });
  expect([twice.status, twice.json.msg]).toEqual([400, expect.stringContaining('Dotfile already exists.')]);
  expect((await server.request(`${url}?path=.vimrc`, { method: 'DELETE' })).json).toEqual({ success: true });
  expect((await server.request(url)).json).toEqual([]);
});

test('what is not there is 404; a wrong field is named', async () => {
  expect((await server.request(`${url}?path=.absent`)).status).toBe(404);
  expect((await server.request(`${url}?path=.absent`, { method: 'DELETE' })).status).toBe(404);
  expect((await server.request(url, { method: 'PATCH', body: vimrc })).status).toBe(404);
  for (const [field, value] of [
    ['path', '.ssh'],
    ['permission', '9'],
    ['data', 'x'.repeat(65_537)],
    ['data', undefined],
  ] as const) {
    const answer = await server.request(url, { method: 'POST', body: { ...vimrc, [field]: value } });
    expect([answer.status, Object.keys(answer.json.data)]).toEqual([400, [field]]);
  }
});

test('the bootstrap script is a JSON string', async () => {
  const at = '/user-config/bootstrap-script';
  expect((await server.request(at)).json).toBe('');
  expect((await server.request(at, { method: 'POST', body: { script: 'echo hi' } })).json).toEqual({});
  expect((await server.request(at)).json).toBe('echo hi');
  expect((await server.request(at, { method: 'POST', body: { script: 'x'.repeat(16_385) } })).status).toBe(400);
});
