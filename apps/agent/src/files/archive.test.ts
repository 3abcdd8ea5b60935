import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { extract } from 'tar-stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { archiveSize, createArchive } from './archive.ts';

let outer: string;
let home: string;
beforeEach(() => {
  outer = mkdtempSync(join(tmpdir(), 'archive-'));
  home = join(outer, 'home');
  mkdirSync(home);
});
afterEach(() => rmSync(outer, { recursive: true }));

const archive = (...names: string[]): Readable => createArchive({ home, names, maxBytes: 0, owner: null });

/** Names and what they hold: content, or where a link leads. */
async function unpacked(stream: Readable): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const entry of stream.pipe(extract())) {
    found[entry.header.name] = entry.header.linkname ?? (await text(entry));
  }
  return found;
}

it('keeps links that lead to somewhere in the archive, and none that a chain of links takes out', async () => {
  mkdirSync(join(home, 'p/d'), { recursive: true });
  writeFileSync(join(home, 'p/f'), 'content');
  writeFileSync(join(home, 'secret'), 'secret');
  for (const [name, target] of [
    ['p/in', 'f'],
    ['p/d/up', '..'],
    ['p/chain', 'd/up/../secret'],
    ['p/beside', '../secret/../p'],
    ['p/absolute', '/etc'],
  ] as const) {
    symlinkSync(target, join(home, name));
  }
  expect(await unpacked(archive('p'))).toEqual({ 'p/': '', 'p/d/': '', 'p/d/up': '..', 'p/f': 'content', 'p/in': 'f' });
});

it('leaves the event loop to others while it walks a large tree', async () => {
  for (let i = 0; i < 500; i++) mkdirSync(join(home, String(i)));
  let turns = 0;
  let next: NodeJS.Immediate;
  const turn = (): void => {
    turns += 1;
    next = setImmediate(turn);
  };
  turn();
  expect(await archiveSize(home, [], Number.POSITIVE_INFINITY)).toBe(1024 + 500 * 512);
  const counted = turns;
  await buffer(archive());
  clearImmediate(next!);
  expect(counted).toBeGreaterThan(100);
  expect(turns - counted).toBeGreaterThan(100);
});

/** Resolves when no call of the file system is under way for some turns of the event loop. */
async function quiet(): Promise<void> {
  for (let idle = 0; idle < 50; idle += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    if (process.getActiveResourcesInfo().some((name) => name.startsWith('FSReq'))) idle = 0;
  }
}

it('walks no further than its reader follows, and ends with it', async () => {
  for (let i = 0; i < 1500; i++) symlinkSync('0', join(home, String(i)));
  const descriptors = readdirSync('/proc/self/fd').length;
  const chunks = archive()[Symbol.asyncIterator]();
  await chunks.next();
  await quiet();
  await chunks.return?.();
  await quiet();
  expect(readdirSync('/proc/self/fd')).toHaveLength(descriptors);

  const slowly = archive();
  await once(slowly, 'readable');
  await quiet();
  // What it has not looked at by now it does not find any more.
  rmSync(home, { recursive: true });
  const found = Object.keys(await unpacked(slowly)).length;
  expect(found).toBeGreaterThan(50);
  expect(found).toBeLessThan(1000);
});

it('follows no link that takes the place of a folder meanwhile', async () => {
  mkdirSync(join(outer, 'other'));
  writeFileSync(join(outer, 'other/secret'), 'secret');
  let on = true;
  const swap = (linked: boolean): void => {
    const place = join(home, 'd');
    if (linked) unlinkSync(place);
    else rmSync(place, { recursive: true, force: true });
    if (linked) mkdirSync(place);
    else symlinkSync('../other', place);
    if (on) setImmediate(swap, !linked);
  };
  swap(false);
  const seen = new Set<string>();
  for (let i = 0; i < 200; i++) {
    const found = await unpacked(archive());
    for (const name of Object.keys(found)) seen.add(name);
  }
  on = false;
  await new Promise((resolve) => setImmediate(resolve));
  expect(seen).toContain('d/');
  expect(seen).not.toContain('d/secret');
});
