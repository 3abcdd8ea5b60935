import { mkdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { makeClusterFolder } from './cluster-folder.ts';
import { clusterLayout } from './cluster-layout.ts';
import { lockDirectory } from './directory-lock.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'bai-cluster-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

it('what a restore left that failed before its keys were written is a data directory', async () => {
  await (await lockDirectory(root)).release();
  mkdirSync(join(root, 'database'));
  makeClusterFolder(clusterLayout(root));
});

it.each(['thesis.tex', 'lock.toml', 'cluster.json'])(
  'a folder with %s beside a lock is somebody else’s',
  async (name) => {
    await (await lockDirectory(root)).release();
    writeFileSync(join(root, name), '');
    expect(() => makeClusterFolder(clusterLayout(root))).toThrow('holds something else');
  },
);
