import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster } from './support/cluster.ts';

let cluster: TestCluster;
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'backendai-'));
  cluster = await TestCluster.start();
});
afterAll(async () => {
  await cluster?.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe('operators of an embedded cluster', () => {
  it('see and change the same as those of separate processes, through its admin socket', async () => {
    expect(await cluster.json(['mgr', 'status'])).toMatchObject({ embedded: true, epoch: 1, agents: { ALIVE: 1 } });
    expect(await cluster.json(['mgr', 'verify'])).toMatchObject({ violations: [] });
    expect(await cluster.json(['mgr', 'dbschema', 'show'])).toMatchObject({ pending: [] });
    const { peers } = await cluster.json<{ peers: Array<{ kind: string }> }>(['mgr', 'peers', 'list']);
    expect(peers.map(({ kind }) => kind)).toEqual(['agent', 'manager']);
    await cluster.json(['mgr', 'etcd', 'put', 'volumes/default', 'local']);
    expect(await cluster.json(['mgr', 'etcd', 'get', 'volumes/default'])).toMatchObject({ value: 'local' });
    const refused = await cluster.cli(['mgr', 'peers', 'revoke', 'nobody']);
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/no peer "nobody".*\n.*\n {2}request id: /),
    ]);
    const rotated = await cluster.cli(['mgr', 'peers', 'rotate', 'manager']);
    expect([rotated.code, rotated.stderr]).toEqual([
      1,
      expect.stringMatching(/"manager" is a manager.*\n.*peers revoke manager/),
    ]);
    const status = await cluster.cli(['ag', 'status']);
    expect(status.stdout).toMatch(/^In use +cpu 0 of \d/m);
  });

  it('replace the installation key while sessions and users go on', async () => {
    const shown = async () =>
      (
        await cluster.json<{ keys: Array<{ id: string; state: string; inFile: boolean }> }>([
          'mgr',
          'installation-key',
          'show',
        ])
      ).keys;
    const [former] = await shown();
    const { id } = await cluster.json<{ id: string }>(['mgr', 'installation-key', 'add']);
    expect(await cluster.json(['mgr', 'installation-key', 'reencrypt'])).toMatchObject({ id, moved: 1 });
    expect(await cluster.json(['mgr', 'installation-key', 'remove-old'])).toMatchObject({
      removed: [former?.id],
      managers: [],
    });
    expect((await shown()).filter(({ inFile }) => inFile)).toMatchObject([{ id, state: 'current' }]);
    expect(await cluster.cli(['run', 'shell', '-c', 'echo works'])).toMatchObject({ code: 0, stdout: 'works\n' });
  });

  it('restore a backup into a new folder, where the sessions and credentials are the same', async () => {
    await cluster.json(['session', 'create', '--name', 'in-backup', 'shell']);
    await cluster.json(['session', 'destroy', 'in-backup']);
    const file = join(folder, 'cluster.backup');
    await cluster.json(['mgr', 'backup', file]);
    const restored = TestCluster.in(join(folder, 'restored'));
    await restored.json(['mgr', 'restore', '--data-dir', restored.dataDir, file]);
    await restored.up();
    try {
      const { accessKey, secretKey } = restored.credentials;
      expect({ accessKey, secretKey }).toEqual({
        accessKey: cluster.credentials.accessKey,
        secretKey: cluster.credentials.secretKey,
      });
      const { sessions } = await restored.json<{ sessions: Array<{ name: string }> }>(['ps', '-a']);
      expect(sessions.map(({ name }) => name)).toContain('in-backup');
      expect(await restored.cli(['run', 'shell', '-c', 'echo works'])).toMatchObject({ code: 0, stdout: 'works\n' });
      const again = await restored.cli(['mgr', 'restore', '--data-dir', restored.dataDir, file]);
      expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('[data-directory-locked]')]);
    } finally {
      await restored.stop();
    }
  });

  it('are told in one sentence when nothing runs', async () => {
    const { code, stdout, stderr } = await cluster.cli(['mgr', 'status', '--data-dir', join(folder, 'nothing')]);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^Error: No cluster runs on .*\. \[server-unreachable\]\n {2}Start one: /);
  });
});
