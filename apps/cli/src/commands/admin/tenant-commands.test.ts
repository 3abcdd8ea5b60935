import { type FakeApi, startFakeApi } from '@backend.ai/client/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { type CliOutcome, runCli } from '../../testing/run-cli.ts';

let api: FakeApi;
afterEach(() => api[Symbol.asyncDispose]());

type Services = NonNullable<NonNullable<Parameters<typeof startFakeApi>[0]>['services']>;
/** The last input of any call, whose answer has what commands look at. */
let sent: unknown;
const answer = {
  items: [],
  total: 0,
  user: { email: 'a@lab.org', id: 'u' },
  keypair: { accessKey: 'AK' },
  secretKey: 'SK',
};
/** And which one it was. */
let calledAt: string;
const recordingAt = (path: readonly string[]): unknown =>
  new Proxy(() => {}, {
    get: (_target, name) => recordingAt([...path, String(name)]),
    apply: (_target, _this, [input]: [unknown]) => {
      sent = input;
      calledAt = path.join('.');
      return Promise.resolve(answer);
    },
  });
const recording = recordingAt([]);

async function cli(line: string): Promise<CliOutcome> {
  const tenants = { domain: recording, project: recording, user: recording, keypair: recording, audit: recording };
  const resources = { resourcePolicy: recording, resourceGroup: recording, resourcePreset: recording };
  const services = { ...tenants, ...resources };
  api = await startFakeApi({ role: 'superadmin', services: { admin: services } as unknown as Services });
  return await runCli(line.split(' '), { api, cwd: '/' });
}

describe('commands about tenants send', () => {
  it.each([
    ['admin domain add research --total-resource-slots cpu=8', { name: 'research', totalResourceSlots: { cpu: '8' } }],
    ['admin domain update research --no-active', { name: 'research', isActive: false }],
    ['admin domain purge research', { name: 'research' }],
    ['admin group add genome --domain research', { name: 'genome', domain: 'research' }],
    ['admin project info genome', { project: 'genome' }],
    ['admin group add-users genome a@x.org,b@x.org', { project: 'genome', users: ['a@x.org', 'b@x.org'] }],
    ['admin group add-users genome a@x.org b@x.org', { project: 'genome', users: ['a@x.org', 'b@x.org'] }],
    [
      'admin user add research a@lab.org --role admin',
      { domain: 'research', email: 'a@lab.org', role: 'admin', projects: [] },
    ],
    ['admin user update a@lab.org --status inactive', { user: 'a@lab.org', status: 'inactive' }],
    ['admin user password --old before123 --new after1234', { oldPassword: 'before123', newPassword: 'after1234' }],
    ['admin user delete a@lab.org', { user: 'a@lab.org' }],
    ['admin keypair add a@lab.org --admin', { user: 'a@lab.org', isAdmin: true }],
    ['admin keypair deactivate AK', { accessKey: 'AK', isActive: false }],
    ['admin domain info research', { name: 'research' }],
    ['admin domain delete research', { name: 'research' }],
    ['admin group update genome --description x', { project: 'genome', description: 'x' }],
    ['admin group delete genome', { project: 'genome' }],
    ['admin group purge genome', { project: 'genome' }],
    ['admin group remove-users genome a@x.org', { project: 'genome', users: ['a@x.org'] }],
    ['admin user info a@lab.org', { user: 'a@lab.org' }],
    ['admin user purge a@lab.org', { user: 'a@lab.org' }],
    ['admin keypair info AK', { accessKey: 'AK' }],
    ['admin keypair delete AK', { accessKey: 'AK' }],
    ['admin keypair activate AK', { accessKey: 'AK', isActive: true }],
    ['admin audit list --kind user --limit 5', { targetKind: 'user', limit: 5, offset: 0 }],
  ])('%s', async (line, input) => {
    const { exitCode, json } = await cli(`${line} --json`);
    expect(exitCode).toBe(0);
    expect(json.requestId).toBe('r-of-the-test');
    expect(sent).toEqual(input);
  });
});

describe('commands about resources send', () => {
  const id = '019b0000-0000-7000-8000-000000000000';
  const unlimited = { maxSessionCountPerModelSession: 0, maxCustomizedImageCount: 0, maxConcurrentLogins: 0 };

  it.each([
    ['admin keypair-resource-policy info small', 'keypair.get', { name: 'small' }],
    ['admin keypair-resource-policy delete small', 'keypair.delete', { name: 'small' }],
    [
      'admin user-resource-policy add small --total-resource-slots cpu=2 --max-customized-image-count 3',
      'user.create',
      { ...unlimited, name: 'small', totalResourceSlots: { cpu: '2' }, maxCustomizedImageCount: 3 },
    ],
    [
      'admin user-resource-policy update small --max-customized-image-count 0',
      'user.modify',
      { name: 'small', maxCustomizedImageCount: 0 },
    ],
    ['admin user-resource-policy info small', 'user.get', { name: 'small' }],
    ['admin user-resource-policy delete small', 'user.delete', { name: 'small' }],
    [
      'admin project-resource-policy add small --max-network-count 2',
      'project.create',
      { name: 'small', maxNetworkCount: 2 },
    ],
    [
      'admin project-resource-policy update small --max-network-count 0',
      'project.modify',
      { name: 'small', maxNetworkCount: 0 },
    ],
    ['admin project-resource-policy info small', 'project.get', { name: 'small' }],
    ['admin project-resource-policy delete small', 'project.delete', { name: 'small' }],
    [
      'admin resource-preset add small -r cpu=1 --shared-memory none',
      'create',
      { name: 'small', resourceSlots: { cpu: '1' }, sharedMemory: null, resourceGroup: null },
    ],
    [`admin resource-preset update ${id} -r cpu=2`, 'modify', { id, resourceSlots: { cpu: '2' } }],
    [`admin resource-preset delete ${id}`, 'delete', { id }],
    ['admin scaling-group info gpu', 'get', { name: 'gpu' }],
    ['admin scaling-group delete gpu', 'delete', { name: 'gpu' }],
    ['admin scaling-group disallow gpu --keypair AK', 'disallow', { name: 'gpu', to: { accessKey: 'AK' } }],
  ])('%s', async (line, path, input) => {
    const { exitCode, stderr } = await cli(`${line} --json`);
    expect([exitCode, stderr]).toEqual([0, '']);
    expect([calledAt, sent]).toEqual([path, input]);
  });
});

it('the secret of a new key pair is shown', async () => {
  const added = await cli('admin user add research a@lab.org');
  expect(added.stdout).toMatch(/accessKey +AK\nsecretKey +SK/);
  expect(added.stderr).toContain('./backend.ai login --access-key AK');
});

it('a password is not changed to nothing', async () => {
  expect(await cli('admin user password')).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--new') });
});

it('sessions of everyone are listed with whose they are, and by id', async () => {
  api = await startFakeApi();
  await runCli(['session', 'create', '--name', 'mine', 'python'], { api, cwd: '/' });
  const { stdout } = await runCli(['ps', '--everyone'], { api, cwd: '/' });
  const [head, row] = stdout.split('\n').map((line) => line.split(/ {2,}/));
  expect(head?.slice(0, 5)).toEqual(['NAME', 'ACCESS KEY', 'PROJECT', 'ID', 'STATUS']);
  const { json } = await runCli(['ps', '--json'], { api, cwd: '/' });
  const [{ id, accessKey, domain, project }] = json.sessions;
  expect(row?.slice(0, 5)).toEqual(['mine', accessKey, `${domain}/${project}`, id, 'RUNNING']);
});

it('a list without entries says so', async () => {
  expect((await cli('admin user list')).stdout).toBe('There are none.\n');
});
