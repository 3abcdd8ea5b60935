import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError } from '@backend.ai/core';
import { type Header, pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { unpack } from './unpack.ts';

let outer: string;
let folder: string;
beforeEach(async () => {
  outer = await mkdtemp(join(tmpdir(), 'unpack-'));
  folder = join(outer, 'inside');
  await mkdir(folder);
});
afterEach(() => rm(outer, { recursive: true }));

type Entry = Partial<Header> & { name: string; body?: string };

function tar(...entries: Entry[]): AsyncIterable<Uint8Array> {
  const archive = pack();
  for (const { body = '', ...header } of entries) {
    if (header.type === undefined || header.type === 'file') archive.entry(header as Header, body);
    else archive.entry(header as Header);
  }
  archive.finalize();
  return archive as unknown as AsyncIterable<Uint8Array>;
}

describe('unpack', () => {
  it('writes files, folders and links that stay inside', async () => {
    const { files, leftOut } = await unpack(
      tar(
        { name: 'a/', type: 'directory' },
        { name: 'a/b/c.txt', body: 'c', mode: 0o4755 },
        { name: 'a/link', type: 'symlink', linkname: 'b/c.txt' },
        { name: './top', body: 't' },
      ),
      folder,
    );
    expect(files).toEqual(['a/b/c.txt', 'top', 'a/link']);
    expect(leftOut).toEqual([]);
    expect(await readFile(join(folder, 'a/link'), 'utf8')).toBe('c');
    expect((await lstat(join(folder, 'a/b/c.txt'))).mode & 0o7777).toBe(0o755);
  });

  it('replaces a link that was there instead of writing through it', async () => {
    await writeFile(join(outer, 'victim'), 'mine');
    await symlink(join(outer, 'victim'), join(folder, 'x'));
    await unpack(tar({ name: 'x', body: 'theirs' }), folder);
    expect(await readFile(join(outer, 'victim'), 'utf8')).toBe('mine');
    expect(await readFile(join(folder, 'x'), 'utf8')).toBe('theirs');
  });

  it('makes links after everything else, so that no entry goes through one', async () => {
    await expect(
      unpack(tar({ name: 'd', type: 'symlink', linkname: '.' }, { name: 'd/evil', body: 'x' }), folder),
    ).rejects.toThrow();
    expect((await lstat(join(folder, 'd'))).isSymbolicLink()).toBe(false);
  });

  it('leaves devices and hard links out', async () => {
    const entries: Entry[] = [
      { name: 'null', type: 'character-device', devmajor: 1, devminor: 3 },
      { name: 'hard', type: 'link', linkname: '/etc/passwd' },
      { name: 'pipe', type: 'fifo' },
    ];
    const { files, leftOut } = await unpack(tar(...entries), folder);
    expect(files).toEqual([]);
    expect(leftOut.map(({ name }) => name)).toEqual(['null', 'hard', 'pipe']);
    expect(await readdir(folder)).toEqual([]);
  });

  it.each<[string, Entry[]]>([
    ['a name with ..', [{ name: '../evil', body: 'x' }]],
    ['a name with .. in the middle', [{ name: 'a/../../evil', body: 'x' }]],
    ['an absolute name', [{ name: '/tmp/evil-of-unpack', body: 'x' }]],
    ['a folder outside', [{ name: '../evil', type: 'directory' }]],
    ['the folder itself as a file', [{ name: '.', type: 'file', body: 'x' }]],
  ])('refuses %s', async (_, entries) => {
    await expect(unpack(tar(...entries), folder)).rejects.toMatchObject({ code: 'invalid-path' });
    expect(await readdir(outer)).toEqual(['inside']);
  });

  it.each<[string, Entry[]]>([
    ['an absolute link', [{ name: 'l', type: 'symlink', linkname: '/etc' }]],
    ['a link that leaves', [{ name: 'a/l', type: 'symlink', linkname: '../../etc' }]],
    ['a link up', [{ name: 'l', type: 'symlink', linkname: '..' }]],
    [
      'a link that goes up from where another one leads',
      [
        { name: 'd/up', type: 'symlink', linkname: '..' },
        { name: 'l', type: 'symlink', linkname: 'd/up/../victim' },
      ],
    ],
    ['a link that could go up from where another archive leads it', [{ name: 'l', type: 'symlink', linkname: 'd/..' }]],
    ['a link through one that was there', [{ name: 'l', type: 'symlink', linkname: 'mine/victim' }]],
    ['a link through a chain of those that were there', [{ name: 'l', type: 'symlink', linkname: 'chain/victim' }]],
  ])('leaves out %s, and says so', async (_, entries) => {
    await mkdir(join(outer, 'other'));
    await symlink(join(outer, 'other'), join(folder, 'mine'));
    await symlink('mine', join(folder, 'chain'));
    const { files, leftOut } = await unpack(tar(...entries, { name: 'rest', body: 'r' }), folder);
    const [last] = entries.slice(-1);
    expect(leftOut).toEqual([{ name: last?.name, reason: expect.stringContaining(last?.linkname ?? '') }]);
    expect(files).toContain('rest');
    expect(await lstat(join(folder, last?.name ?? '')).catch(({ code }) => code)).toBe('ENOENT');
  });

  it('makes links that lead through links that stay inside, again and again', async () => {
    const entries: Entry[] = [
      { name: 'lib/x', body: 'x' },
      { name: 'lib64', type: 'symlink', linkname: 'lib' },
      { name: 'bin/x', type: 'symlink', linkname: '../lib64/x' },
      { name: 'self', type: 'symlink', linkname: 'self' },
    ];
    expect((await unpack(tar(...entries), folder)).leftOut).toEqual([]);
    await unpack(tar(...entries.slice(0, 3)), folder);
    expect(await readFile(join(folder, 'bin/x'), 'utf8')).toBe('x');
  });

  it('refuses to write through a linked folder that was there', async () => {
    await mkdir(join(outer, 'other'));
    await symlink(join(outer, 'other'), join(folder, 'd'));
    await expect(unpack(tar({ name: 'd/evil', body: 'x' }), folder)).rejects.toBeInstanceOf(AppError);
    expect(await readdir(join(outer, 'other'))).toEqual([]);
    expect(await readlink(join(folder, 'd'))).toBe(join(outer, 'other'));
  });

  it('fails when the archive is cut short, and keeps no half file', async () => {
    const whole: Uint8Array[] = [];
    for await (const chunk of tar({ name: 'big', body: 'x'.repeat(100_000) })) whole.push(chunk);
    const half = Buffer.concat(whole).subarray(0, 50_000);
    const cut = async function* () {
      yield half;
    };
    await expect(unpack(cut(), folder)).rejects.toThrow();
    expect(await readdir(folder)).toEqual([]);
  });
});
