import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { generateIdentity, isSignedBy, loadOrCreateIdentity, pinnedKeys, signWith } from './identity.ts';
import { newJoinToken, parseJoinToken } from './join-token.ts';
import { failureOf } from './world.test.kit.ts';

describe('an identity', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'identity-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('shows its public key as 32 raw bytes', () => {
    const { publicKey } = generateIdentity('agent', 'i-1');
    expect(Buffer.from(publicKey, 'base64url')).toHaveLength(32);
    expect(publicKey).toHaveLength(43);
  });

  it('is made once, kept for its owner only, and found again', async () => {
    const file = join(folder, 'deep', 'peer.key');
    const first = await loadOrCreateIdentity(file, 'agent', 'i-1');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await loadOrCreateIdentity(file, 'agent', 'i-1')).publicKey).toBe(first.publicKey);
    expect(await readdir(join(folder, 'deep'))).toEqual(['peer.key']);
  });

  it('is the same for processes that make it at the same time', async () => {
    const file = join(folder, 'peer.key');
    const made = await Promise.all(Array.from({ length: 8 }, () => loadOrCreateIdentity(file, 'agent', 'i-1')));
    expect(new Set(made.map(({ publicKey }) => publicKey)).size).toBe(1);
  });

  it('is not made up in place of a file that holds something else', async () => {
    const file = join(folder, 'peer.key');
    await writeFile(file, 'not a key');
    expect(await failureOf(loadOrCreateIdentity(file, 'agent', 'i-1'))).toMatchObject({ code: 'config-invalid' });
  });

  it('signs what nobody else can sign', () => {
    const mine = generateIdentity('agent', 'i-1');
    const other = generateIdentity('agent', 'i-1');
    const signature = signWith(mine, 'text');
    expect(isSignedBy(mine.publicKey, 'text', signature)).toBe(true);
    expect(isSignedBy(mine.publicKey, 'other text', signature)).toBe(false);
    expect(isSignedBy(other.publicKey, 'text', signature)).toBe(false);
    expect(isSignedBy('no key', 'text', signature)).toBe(false);
    expect(isSignedBy(mine.publicKey, 'text', 'no signature')).toBe(false);
  });

  it('has a name that can stand in logs and addresses', () => {
    expect(() => generateIdentity('agent', 'two words')).toThrow('cannot name a peer');
  });
});

describe('a list of pinned keys', () => {
  it('knows its keys for its kind, whatever their owners are called', async () => {
    const directory = pinnedKeys('manager', ['a', 'b']);
    expect(await directory.find('manager', 'm-1', 'b')).toBe('b');
    expect(await directory.find('manager', 'm-1', 'c')).toBeUndefined();
    expect(await directory.find('agent', 'i-1', 'a')).toBeUndefined();
  });
});

describe('a join token', () => {
  const keys = [generateIdentity('manager', 'a').publicKey, generateIdentity('manager', 'b').publicKey];

  it('names the keys of all managers and never is the same', () => {
    const { text } = newJoinToken(keys);
    expect(parseJoinToken(text).managerKeys).toEqual(keys);
    expect(newJoinToken(keys).text).not.toBe(text);
  });

  it('is refused when it was cut or changed', () => {
    const { text } = newJoinToken(keys);
    for (const wrong of ['', text.slice(0, 60), text.replace('bai1', 'bai9'), text.replaceAll('.', ' ')]) {
      expect(() => parseJoinToken(wrong)).toThrow('The join token is not one');
    }
  });
});

// In a process of its own: what this is about stops its thread for ever.
it('an identity can be made and shown whatever is collected as garbage meanwhile', async () => {
  const source = JSON.stringify(join(import.meta.dirname, 'identity.ts'));
  const body = `
    import { generateIdentity } from ${source};
    for (let nth = 0; nth < 2000; nth++) {
      const { privateKey } = generateIdentity('agent', 'i-1');
      for (let time = 0; time < 20; time++) privateKey.export({ format: 'jwk' });
    }
    console.log('done');`;
  const argv = [
    '--import',
    'tsx',
    '--conditions=@backend.ai/source',
    '--max-semi-space-size=1',
    '--input-type=module',
    '-e',
    body,
  ];
  const { stdout } = await promisify(execFile)(process.execPath, argv, { timeout: 60_000, killSignal: 'SIGKILL' });
  expect(stdout).toBe('done\n');
}, 70_000);
