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
const recording: unknown = new Proxy(() => {}, {
  get: () => recording,
  apply: (_target, _this, [input]: [unknown]) => {
    sent = input;
    return Promise.resolve(answer);
  },
});

async function cli(line: string): Promise<CliOutcome> {
  const services = { domain: recording, project: recording, user: recording, keypair: recording, audit: recording };
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
    ['admin audit list --kind user --limit 5', { targetKind: 'user', limit: 5, offset: 0 }],
  ])('%s', async (line, input) => {
    const { exitCode, json } = await cli(`${line} --json`);
    expect(exitCode).toBe(0);
    expect(json.requestId).toBe('r-of-the-test');
    expect(sent).toEqual(input);
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
