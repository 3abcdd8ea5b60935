import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testImages } from '../apps/agent/tests/docker-world.ts';
import { TestCluster } from './support/cluster.ts';

const { python } = await testImages();

/** Not those of other tests on this machine. */
const listed = '203.0.113.30';
const unlisted = '203.0.113.40';
const own = randomBytes(4).toString('hex');
const netns = `bai-egress-${own}`;
const link = `bai-${own}e`;

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Only root may set rules, and make a neighbour of the machine that they keep sessions from. */
describe.runIf(process.getuid?.() === 0)('the egress policy of a resource group', () => {
  let cluster: TestCluster;

  beforeAll(async () => {
    // Nothing listens there: what arrives is refused, what does not is lost.
    ip('netns', 'add', netns);
    ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns);
    ip('-n', netns, 'link', 'set', 'eth0', 'up');
    ip('-n', netns, 'route', 'add', 'default', 'dev', 'eth0');
    ip('link', 'set', link, 'up');
    for (const address of [listed, unlisted]) {
      ip('-n', netns, 'address', 'add', `${address}/32`, 'dev', 'eth0');
      ip('route', 'add', `${address}/32`, 'dev', link);
    }
    cluster = await TestCluster.start(['--backend', 'docker']);
  });
  afterAll(async () => {
    try {
      await cluster?.stop();
    } finally {
      ip('netns', 'del', netns);
    }
  });

  async function reached(name: string): Promise<Record<string, string>> {
    const code = [
      'import json, socket',
      'def dial(host, port):',
      '    try: socket.create_connection((host, port), 3).close()',
      '    except ConnectionRefusedError: return "reached"',
      '    except OSError as error: return "lost" if isinstance(error, TimeoutError) else type(error).__name__',
      '    return "open"',
      `print(json.dumps({f"{host}:{port}": dial(host, port) for host in ("${listed}", "${unlisted}") for port in (443, 80)}))`,
    ].join('\n');
    const { stdout, stderr } = await cluster.cli(['session', 'exec', name, '-c', code]);
    if (!stdout.startsWith('{')) throw new Error(stdout + stderr);
    return JSON.parse(stdout) as Record<string, string>;
  }

  async function sessionUnder(name: string, policy: string): Promise<void> {
    const update = await cluster.cli(['admin', 'resource-group', 'update', 'default', '--egress', policy]);
    expect(update.code, update.stderr).toBe(0);
    await cluster.json(['session', 'create', '--name', name, '-r', 'cpu=1', '-r', 'mem=256m', python]);
  }

  test('is what sessions reach that are created from then on, and no more', { timeout: 240_000 }, async () => {
    const places = [`${listed}:443`, `${listed}:80`, `${unlisted}:443`, `${unlisted}:80`];
    const each = (fate: string): Record<string, string> => Object.fromEntries(places.map((place) => [place, fate]));
    await sessionUnder('open', 'open');
    expect(await reached('open')).toEqual(each('reached'));
    const allow = [{ to: `${listed}/32`, protocol: 'tcp', ports: ['443'] }];
    await sessionUnder('some', JSON.stringify({ policy: 'allow-list', allow }));
    const some = { ...each('lost'), [`${listed}:443`]: 'reached' };
    expect(await reached('some')).toEqual(some);
    // An agent of two cores has room for two.
    await cluster.json(['session', 'destroy', 'open']);
    await sessionUnder('none', 'none');
    expect(await reached('none')).toEqual(each('lost'));
    // Those that run keep what they were created with.
    expect(await reached('some')).toEqual(some);
  });
});
