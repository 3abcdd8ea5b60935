import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeSecretFile } from './secret-file.ts';

describe('a secret file', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'secret-file-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('is made with its folder, and for its owner only', async () => {
    const file = join(folder, 'keys', 'one');
    await makeSecretFile(file, 'text');
    expect(await readFile(file, 'utf8')).toBe('text');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  it('is that of the first who made it, whole, and nothing else is left of the race', async () => {
    const file = join(folder, 'one');
    const contents = Array.from({ length: 20 }, (_, index) => String(index).repeat(100_000));
    await Promise.all(contents.map((content) => makeSecretFile(file, content)));
    expect(contents).toContain(await readFile(file, 'utf8'));
    expect(await readdir(folder)).toEqual(['one']);
  });

  it('is left alone where it is, and nothing is left where none can be made', async () => {
    const file = join(folder, 'one');
    await writeFile(file, 'before');
    await makeSecretFile(file, 'after');
    expect(await readFile(file, 'utf8')).toBe('before');
    await expect(makeSecretFile(join(file, 'below'), 'text')).rejects.toMatchObject({ code: 'EEXIST' });
    expect(await readdir(folder)).toEqual(['one']);
  });
});
