import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { engineRemains } from '@backend.ai/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { TestCluster } from './support/cluster.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'docker-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const nothing = { containers: [], networks: [] };

test('quickstart runs the example in a container and leaves nothing in the engine', async () => {
  const cluster = TestCluster.in(join(folder, 'data'));
  const args = [
    'quickstart',
    '--exit',
    '--port',
    '0',
    '--backend',
    'docker',
    '--output',
    join(folder, 'out'),
    '--json',
  ];
  const result = await cluster.cli(args);
  expect(result.code, result.stderr + result.stdout).toBe(0);
  expect(result.stderr).toMatch(/^▸ Kernels are containers of (Docker|Podman) \d/m);
  const document = JSON.parse(result.stdout) as { image: string; output: string };
  expect(document.image).toMatch(/^backend\.ai\//);
  expect(document.output).toMatch(/1990s\s+521\s+360\.38/);
  expect(await engineRemains(cluster.engineLabel)).toEqual(nothing);
});

test('a cluster takes the engine by itself: state, files and packages of the image, and nothing left after down', async () => {
  const cluster = await TestCluster.start(['--backend', 'auto']);
  let label = '';
  try {
    expect(await cluster.json(['ag', 'status'])).toMatchObject({ backend: 'docker' });
    await cluster.json([
      'session',
      'create',
      '--name',
      'crate',
      '-r',
      'cpu=1',
      '-r',
      'mem=512m',
      'backend.ai/python:3.11',
    ]);
    await cluster.json(['session', 'exec', 'crate', '-c', 'import numpy; x = numpy.arange(7).sum()']);
    const again = await cluster.cli(['session', 'exec', 'crate', '-c', 'print(x, __import__("os").getcwd())']);
    expect(again.stdout).toContain('21 /home/work');
    label = cluster.engineLabel;
    expect((await engineRemains(label)).containers).toHaveLength(1);
    await cluster.json(['session', 'destroy', 'crate']);
    expect((await engineRemains(label)).containers).toEqual([]);
    await cluster.json([
      'session',
      'create',
      '--name',
      'other',
      '-r',
      'cpu=1',
      '-r',
      'mem=512m',
      'backend.ai/python:3.11',
    ]);
  } finally {
    label = cluster.engineLabel;
    await cluster.stop();
  }
  expect(await engineRemains(label)).toEqual(nothing);
});
