import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestCluster } from './support/cluster.ts';
import { repository } from './support/command.ts';

let cluster: TestCluster;
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'commands-'));
  cluster = await TestCluster.start();
});
afterAll(async () => {
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

test('the README commands work as written', async () => {
  expect(await cluster.cli(['run', 'python', '-c', 'print(6 * 7)'])).toMatchObject({ code: 0, stdout: '42\n' });
  const counted = await cluster.cli(['run', 'python', join(repository, 'examples/word-count.py')], {
    input: 'a b a\n',
  });
  expect(counted).toMatchObject({ code: 0, stdout: '     2 a\n     1 b\n' });
  const create = ['session', 'create', '-r', 'cpu=1', '-r', 'mem=512m', '--name', 'demo', 'python'];
  expect((await cluster.cli(create)).code).toBe(0);
  expect((await cluster.cli(['session', 'exec', 'demo', '-c', 'x = 1'])).code).toBe(0);
  expect((await cluster.cli(['session', 'exec', 'demo', '-c', 'x + 1'])).stdout).toBe('2\n');
  expect((await cluster.cli(['session', 'upload', 'demo', join(repository, 'examples/co2/co2.csv')])).code).toBe(0);
  const counting = ['session', 'exec', 'demo', '--', 'sh', '-c', 'wc -l < co2.csv; echo "$0" "$1"', 'it is', "o'clock"];
  expect((await cluster.cli(counting)).stdout.replace(/ *(\d+)/, '$1')).toBe("2285\nit is o'clock\n");
  expect((await cluster.cli(['session', 'download', 'demo', 'co2.csv', '--dest', folder])).code).toBe(0);
  expect(readFileSync(join(folder, 'co2.csv'))).toEqual(readFileSync(join(repository, 'examples/co2/co2.csv')));
  expect((await cluster.cli(['ps'])).stdout).toContain('demo');
  expect((await cluster.cli(['session', 'logs', 'demo'])).code).toBe(0);
  expect((await cluster.cli(['session', 'destroy', 'demo'])).code).toBe(0);
});

test('arguments of a program reach it unchanged', async () => {
  const file = join(folder, 'args.py');
  writeFileSync(file, 'import sys, json\nprint(json.dumps(sys.argv[1:]))\n');
  const args = ['a b', "quote'", '$HOME', '--flag', '', 'ü', '*'];
  const result = await cluster.cli(['run', 'python', file, ...args]);
  expect(JSON.parse(result.stdout)).toEqual(args);
});

test('a session that only waits in the queue says why', async () => {
  const { capacity } = await cluster.json<{ capacity: Record<string, string> }>(['status']);
  const all = `cpu=${capacity.cpu}`;
  await cluster.json(['session', 'create', '--name', 'greedy', '-r', all, 'shell']);
  const queued = await cluster.json<{ session: { status: string } }>([
    'session',
    'create',
    '--enqueue-only',
    '--name',
    'patient',
    '-r',
    all,
    'shell',
  ]);
  expect(queued.session.status).toBe('PENDING');
  await waitFor(async () => {
    const info = await cluster.json<{ session: { reason: { code: string } } }>(['session', 'info', 'patient']);
    return info.session.reason.code === 'insufficient-resources';
  });
  await cluster.json(['session', 'destroy', 'greedy']);
  await cluster.json(['session', 'wait', 'patient']);
  await cluster.json(['session', 'destroy', 'patient']);
});

test('status, doctor, image list and ag list-slots read well for people and machines', async () => {
  for (const args of [['status'], ['doctor'], ['image', 'list'], ['ag', 'status'], ['ag', 'list-slots'], ['ps']]) {
    const people = await cluster.cli(args);
    expect(people.code, args.join(' ')).toBe(0);
    expect(people.stdout).toMatch(/\S/);
    const document = await cluster.json<{ requestId: string }>(args);
    expect(document.requestId, args.join(' ')).toMatch(/^[A-Za-z0-9._:-]+$/);
  }
});

test('quickstart --exit on a cluster that runs ends its session, and leaves the cluster', async () => {
  const result = await cluster.cli(['quickstart', '--exit', '--output', join(folder, 'results')]);
  expect(result.code, result.stderr).toBe(0);
  expect(result.stdout).toMatch(/Try next:\n {2}\.\/backend\.ai run /);
  await waitFor(async () => !(await cluster.cli(['ps'])).stdout.includes('quickstart'));
  expect((await cluster.cli(['session', 'exec', 'quickstart', '--', 'ls'])).stderr).toContain(
    'Create another one with',
  );
});

test('login finds the credentials of an embedded cluster by itself', async () => {
  const login = await cluster.cli(['login']);
  expect(login.code, login.stderr).toBe(0);
  expect(login.stdout).not.toContain(cluster.credentials.secretKey);
});
