import { type FakeApi, startFakeApi } from '@backend.ai/client/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { type CliOutcome, runCli } from '../../testing/run-cli.ts';

let api: FakeApi;
afterEach(() => api[Symbol.asyncDispose]());

type Services = NonNullable<NonNullable<Parameters<typeof startFakeApi>[0]>['services']>;
/** Answers with what it was asked, so that tests see what commands send. */
const echo: unknown = new Proxy(() => {}, {
  get: () => echo,
  apply: (_target, _this, [input]: [unknown]) => Promise.resolve(input),
});

async function cli(
  line: string[],
  role: 'user' | 'superadmin' = 'superadmin',
  warmPool: unknown = echo,
): Promise<CliOutcome> {
  api = await startFakeApi({
    role,
    services: {
      admin: {
        resourcePolicy: echo,
        resourceGroup: echo,
        resourcePreset: echo,
        agent: echo,
        registry: echo,
        image: echo,
        warmPool,
      },
    } as Services,
  });
  return await runCli(line, { api, cwd: '/' });
}
const sent = async (line: string) => (await cli([...line.split(' '), '--json'])).json;

describe('admin commands', () => {
  it('send the limits that were given and no others', async () => {
    const add = 'admin keypair-resource-policy add small --total-resource-slots cpu=2,mem=4g --max-priority none';
    expect(await sent(add)).toMatchObject({
      policy: {
        name: 'small',
        totalResourceSlots: { cpu: '2', mem: '4g' },
        maxPriority: null,
        maxConcurrentSessions: 0,
      },
    });
    await api[Symbol.asyncDispose]();
    const { policy } = await sent('admin keypair-resource-policy update small --idle-timeout 0');
    expect(policy).toEqual({ name: 'small', idleTimeout: 0 });
  });

  it('send options of a group as JSON, switches as they were set, and whom it is for', async () => {
    const { group } = await sent('admin resource-group update gpu --no-public --options {"pendingTimeout":60}');
    expect(group).toMatchObject({ name: 'gpu', isPublic: false, options: { pendingTimeout: 60, backfill: false } });
    await api[Symbol.asyncDispose]();
    expect(await sent('admin scaling-group allow gpu --domain lab')).toMatchObject({
      group: { name: 'gpu', to: { domain: 'lab' } },
    });
  });

  it('send an egress policy by its name, or as JSON', async () => {
    const { group } = await sent('admin resource-group update gpu --egress none');
    expect(group).toEqual({ name: 'gpu', egress: { policy: 'none' } });
    await api[Symbol.asyncDispose]();
    const list = '{"policy":"allow-list","allow":[{"to":"10.0.0.0/8"}]}';
    expect((await sent(`admin resource-group add lab --egress ${list}`)).group).toMatchObject({
      egress: JSON.parse(list),
    });
  });

  it('show what an object holds one line each', async () => {
    const { stdout } = await cli(['admin', 'resource-group', 'update', 'gpu', '--options', '{"pendingTimeout":60}']);
    expect(stdout).toMatch(/^options {2}\S.*\n {9}pendingTimeout: 60\n( {9}.*\n)*name {5}gpu\n/);
  });

  it('move agents only when told to', async () => {
    expect(await sent('admin agent update i-one --no-schedulable')).toMatchObject({
      agent: { id: 'i-one', schedulable: false, force: false },
    });
  });

  it('send what a warm pool is to be', async () => {
    expect(await sent('admin warm-pool add small python -r cpu=1,mem=1g -n 4 --resource-group gpu')).toMatchObject({
      pool: { name: 'small', image: 'python', resources: { cpu: '1', mem: '1g' }, size: 4, resourceGroup: 'gpu' },
    });
    await api[Symbol.asyncDispose]();
    expect(await sent('admin warm-pool add small python --preset tiny -n 0')).toMatchObject({
      pool: { preset: 'tiny', size: 0, resourceGroup: 'default' },
    });
    await api[Symbol.asyncDispose]();
    expect(await sent('admin warm-pool update small -n 8')).toMatchObject({ pool: { name: 'small', size: 8 } });
    await api[Symbol.asyncDispose]();
    expect(await sent('admin warm-pool delete small')).toMatchObject({ deleted: 'small' });
  });

  it('tell what failed in a warm pool as long as that keeps it from more, and of managers that tell no reasons none', async () => {
    const pool = {
      name: 'small',
      resourceGroup: 'gpu',
      image: 'python',
      resources: {},
      size: 1,
      ready: 1,
      starting: 0,
    };
    const failing = [{ agent: 'i-a', failures: 1, retryAt: 'soon', error: { message: 'No disk.' } }];
    const listed = async (more: object): Promise<string> => {
      const warmPool = { list: async () => [{ ...pool, ...more }] };
      const { stdout } = await cli(['admin', 'warm-pool', 'list'], 'superadmin', warmPool);
      await api[Symbol.asyncDispose]();
      return stdout;
    };
    expect(await listed({ failing, shortage: [{ code: 'failing', agents: ['i-a'] }] })).toMatch(
      /i-a: waits after slots that failed; No disk\. Next try at i-a soon\./,
    );
    for (const more of [{ failing, shortage: [] }, {}]) expect(await listed(more)).toMatch(/^small .* -$/m);
  });

  it.each([
    'admin keypair-resource-policy add small --max-concurrent-sessions many',
    'admin keypair-resource-policy add small --total-resource-slots cpu',
    'admin scaling-group update gpu --options {',
    'admin scaling-group allow gpu',
    'admin scaling-group allow gpu --domain a --keypair b',
    'admin resource-preset add small',
    'admin warm-pool add small python',
    'admin warm-pool update small -n many',
  ])('tell wrong usage: %s', async (line) => {
    expect((await cli(line.split(' '))).exitCode).toBe(2);
  });

  it.each([
    ['admin warm-pool add small python', '--size'],
    ['admin warm-pool update small', '--size'],
    ['admin resource-preset add small', '--resource-slots'],
  ])('say what is missing: %s', async (line, flag) => {
    const { exitCode, stderr } = await cli(line.split(' '));
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining(`${flag} is missing.`)]);
  });

  it('are refused to others by the server', async () => {
    const { exitCode, stderr } = await cli(['admin', 'scaling-group', 'list'], 'user');
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('[forbidden]') });
  });
});
