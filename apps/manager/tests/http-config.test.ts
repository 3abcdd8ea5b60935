import { type DotfileApi, type DotfileOwner, type DotfileView, setBootstrapScriptSchema } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { FakeWorld, TestServer } from './http-world.ts';

/** Dotfiles of each owner, and bootstrap scripts, as official clients ask for them. */

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

let owner: DotfileOwner | undefined;

function inMemory(files: Map<string, DotfileView>): DotfileApi {
  const get = async ({ path }: { path: string }): Promise<DotfileView> => {
    const found = files.get(path);
    if (!found) throw new AppError('object-not-found', `There is no dotfile ${path}.`);
    return found;
  };
  return {
    list: async (input) => {
      owner = input.owner;
      return [...files.values()];
    },
    get,
    create: async ({ owner: of, ...file }) => {
      owner = of;
      if (files.has(file.path)) throw new AppError('object-exists', 'It is there.');
      files.set(file.path, file);
    },
    modify: async ({ owner: of, ...file }) => {
      owner = of;
      await get(file);
      files.set(file.path, file);
    },
    delete: async ({ path, owner: of }) => {
      owner = of;
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
const group = '11111111-1111-4111-8111-111111111111';
const owners: ReadonlyArray<readonly [string, Record<string, string>, DotfileOwner | undefined]> = [
  [url, {}, undefined],
  ['/domain-config/dotfiles', { domain: 'ours' }, { domain: 'ours' }],
  ['/group-config/dotfiles', { group: 'lab', domain: 'ours' }, { project: 'lab', domain: 'ours' }],
  ['/group-config/dotfiles', { groupId: group }, { project: group }],
];
const vimrc = { path: '.vimrc', permission: '644', data: 'set nu' };

test.each(owners)('dotfiles at %s for %j are made, listed, shown, changed and deleted', async (at, whose, of) => {
  const query = new URLSearchParams(whose);
  const one = new URLSearchParams({ ...whose, path: '.vimrc' });
  expect((await server.request(at, { method: 'POST', body: { ...vimrc, ...whose } })).json).toEqual({});
  expect(owner).toEqual(of);
  expect((await server.request(`${at}?${query}`)).json).toEqual([vimrc]);
  expect(owner).toEqual(of);
  const changed = { ...vimrc, data: 'set nonu', permission: '600' };
  expect((await server.request(at, { method: 'PATCH', body: { ...changed, ...whose } })).json).toEqual({});
  expect(owner).toEqual(of);
  expect((await server.request(`${at}?${one}`)).json).toEqual({ path: '.vimrc', perm: '600', data: 'set nonu' });
  const twice = await server.request(at, { method: 'POST', body: { ...vimrc, ...whose } });
  expect([twice.status, twice.json.msg]).toEqual([400, expect.stringContaining('Dotfile already exists.')]);
  expect((await server.request(`${at}?${one}`, { method: 'DELETE' })).json).toEqual({ success: true });
  expect(owner).toEqual(of);
  expect((await server.request(`${at}?${query}`)).json).toEqual([]);
});

test.each([
  ['/domain-config/dotfiles', 'domain'],
  ['/group-config/dotfiles', 'group'],
])('%s is refused without its %s', async (at, field) => {
  for (const options of [{}, { method: 'POST', body: vimrc }, { method: 'PATCH', body: vimrc }, { method: 'DELETE' }]) {
    const answer = await server.request(`${at}?path=.vimrc`, options);
    expect([answer.status, Object.keys(answer.json.data)]).toEqual([400, [field]]);
  }
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
