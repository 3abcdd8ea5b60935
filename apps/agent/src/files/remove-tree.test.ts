import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { tempDirectory } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { removeTree } from './remove-tree.ts';

async function treeIn(fill: (tree: string) => void): Promise<{ readonly folder: string; readonly tree: string }> {
  const folder = await tempDirectory();
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  fill(tree);
  return { folder, tree };
}

describe('removing a tree of a stranger', () => {
  it('takes everything in it, and counts one that is not there as removed', async () => {
    const { folder, tree } = await treeIn((root) => {
      mkdirSync(join(root, 'a/b/c'), { recursive: true });
      for (const name of ['x', 'a/y', 'a/b/c/z']) writeFileSync(join(root, name), '');
      writeFileSync(Buffer.from([...Buffer.from(`${root}/`), 0xff, 0xfe]), '');
      execFileSync('mkfifo', [join(root, 'a/pipe')]);
    });
    await removeTree(tree);
    await removeTree(tree);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('follows no link, neither in it nor in its place', async () => {
    const { folder, tree } = await treeIn((root) => {
      mkdirSync(join(root, 'a'));
      symlinkSync('../../kept', join(root, 'a/link'));
      symlinkSync('../kept', join(root, 'link'));
      symlinkSync('kept', join(root, '../other'));
    });
    mkdirSync(join(folder, 'kept'), { mode: 0o755 });
    writeFileSync(join(folder, 'kept/file'), '');
    await removeTree(tree);
    await removeTree(join(folder, 'other'));
    expect(readdirSync(folder)).toEqual(['kept']);
    expect(readdirSync(join(folder, 'kept'))).toEqual(['file']);
    expect(lstatSync(join(folder, 'kept')).mode & 0o777).toBe(0o755);
  });

  it('goes deeper than a path can be long, with few descriptors', async () => {
    const { folder, tree } = await treeIn(() => {});
    const levels = 500;
    const dig = `for (let level = 0; level < ${levels}; level++) { fs.mkdirSync('deep-folder'); process.chdir('deep-folder'); }`;
    execFileSync(process.execPath, ['-e', dig], { cwd: tree });
    const before = readdirSync('/proc/self/fd').length;
    let most = 0;
    let over = false;
    const watching = (async () => {
      for (let turn = 0; !over; turn++) {
        if (turn % 32 === 0) most = Math.max(most, readdirSync('/proc/self/fd').length);
        await nextTurn();
      }
    })();
    await removeTree(tree);
    over = true;
    await watching;
    expect(readdirSync(folder)).toEqual([]);
    expect(most - before).toBeLessThan(100);
  }, 60_000);

  it('lets other work go on meanwhile', async () => {
    const { tree } = await treeIn((root) => {
      for (let index = 0; index < 2_000; index++) writeFileSync(join(root, `file-${index}`), '');
    });
    let turns = 0;
    let over = false;
    const others = (async () => {
      for (; !over; turns++) await nextTurn();
    })();
    await removeTree(tree);
    over = true;
    await others;
    expect(turns).toBeGreaterThan(20);
  });

  it.runIf(process.getuid?.() === 0)(
    'takes folders without rights as an ordinary user, too',
    async () => {
      const { folder, tree } = await treeIn((root) => {
        mkdirSync(join(root, 'a/b/c'), { recursive: true });
        for (const name of ['x', 'a/y', 'a/b/c/z']) writeFileSync(join(root, name), '');
      });
      for (const name of ['a/b/c', 'a/b', 'a', '.']) {
        const path = join(tree, name);
        chownSync(path, 65_534, 65_534);
        chmodSync(path, name === 'a/b' ? 0o000 : 0o500);
      }
      chownSync(folder, 65_534, 65_534);
      const code = `import(${JSON.stringify(fileURLToPath(new URL('./remove-tree.ts', import.meta.url)))}).then(({ removeTree }) => removeTree(${JSON.stringify(tree)}))`;
      const node = [process.execPath, '--import', import.meta.resolve('tsx'), '--input-type=module', '-e', code];
      const user = ['--reuid', '65534', '--regid', '65534', '--clear-groups', '--'];
      const result = spawnSync('setpriv', [...user, ...node], { cwd: '/', encoding: 'utf8' });
      expect(result.stderr).toBe('');
      expect(existsSync(tree)).toBe(false);
    },
    60_000,
  );

  it('fails when something cannot be removed, and takes the rest', async () => {
    const { tree } = await treeIn((root) => writeFileSync(join(root, 'file'), ''));
    await expect(removeTree(join(tree, 'file', 'below'))).rejects.toMatchObject({ code: 'ENOTDIR' });
    expect(existsSync(join(tree, 'file'))).toBe(true);
  });
});
