import { linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeTempDirectory } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { folderSize } from './folder-size.ts';

const limits = { entries: 1_000, depth: 8 };
const never = new AbortController().signal;

async function folder(): Promise<string> {
  const directory = await makeTempDirectory();
  onTestFinished(() => directory.remove());
  return directory.path;
}

it('sums what files below a folder take, each once, and follows no link', async () => {
  const [home, elsewhere] = [await folder(), await folder()];
  writeFileSync(join(elsewhere, 'large'), Buffer.alloc(1_000_000, 1));
  mkdirSync(join(home, 'a', 'b'), { recursive: true });
  const empty = (await folderSize(home, limits, never)) ?? 0;
  writeFileSync(join(home, 'a', 'b', 'data'), Buffer.alloc(300_000, 1));
  linkSync(join(home, 'a', 'b', 'data'), join(home, 'again'));
  symlinkSync(elsewhere, join(home, 'outside'));
  symlinkSync(join(elsewhere, 'large'), join(home, 'file'));
  const grown = ((await folderSize(home, limits, never)) ?? 0) - empty;
  expect(grown).toBeGreaterThanOrEqual(300_000);
  expect(grown).toBeLessThan(500_000);
});

it('gives up on what is too many or too deep, on what is not there, and when nobody waits', async () => {
  const home = await folder();
  for (let i = 0; i < 20; i++) writeFileSync(join(home, String(i)), '');
  expect(await folderSize(home, { ...limits, entries: 19 }, never)).toBeNull();
  expect(await folderSize(home, { ...limits, entries: 20 }, never)).not.toBeNull();
  mkdirSync(join(home, 'a/b/c'), { recursive: true });
  expect(await folderSize(home, { ...limits, depth: 3 }, never)).toBeNull();
  expect(await folderSize(join(home, 'none'), limits, never)).toBeNull();
  expect(await folderSize(home, limits, AbortSignal.abort())).toBeNull();
});
