import { createHash, randomBytes } from 'node:crypto';
import { chmod, chown, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError } from '@backend.ai/core';
import { makeSecretFile } from '@backend.ai/runtime';

/** One that encrypts secrets, or did, or will. */
export interface InstallationKey {
  /** Made of the key, and tells nothing of it. */
  readonly id: string;
  readonly bytes: Buffer;
}

/**
 * The key file of a machine: one key per line in base64url, the oldest first. Which one encrypts is said by the database.
 * @throws AppError `config-invalid` when there is no such file, or it holds something else
 */
export async function readInstallationKeys(file: string): Promise<readonly InstallationKey[]> {
  const keys = await findInstallationKeys(file);
  if (keys) return keys;
  throw new AppError('config-invalid', `The installation key file ${file} is not there.`, {
    hint: 'Copy that of a manager of this installation, or of a backup, to this place.',
  });
}

/** Undefined when there is no such file. @throws AppError `config-invalid` when it holds something else */
export async function findInstallationKeys(file: string): Promise<readonly InstallationKey[] | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new AppError('config-invalid', `The installation key file ${file} cannot be read.`, { cause: error });
  }
  await chmod(file, 0o600);
  const keys = text.split('\n').filter(Boolean).map(keyOf);
  if (keys.length > 0 && keys.every(({ bytes }) => bytes.length === 32)) return keys;
  throw new AppError('config-invalid', `The installation key file ${file} is not whole: a key has 32 bytes.`, {
    hint: 'Copy that of another manager, or of a backup, to this place once more.',
  });
}

/** Makes the file when it is not there. Two processes that race for it end up with the same key. */
export async function makeInstallationKeys(file: string): Promise<readonly InstallationKey[]> {
  const found = await findInstallationKeys(file);
  if (found) return found;
  await makeSecretFile(file, textOf([newKey()]));
  return await readInstallationKeys(file);
}

/** As the last one: it encrypts nothing yet. One process at a time may change the file. */
export async function appendInstallationKey(file: string): Promise<InstallationKey> {
  const key = newKey();
  await replaceKeys(file, [...(await readInstallationKeys(file)), key]);
  return key;
}

/** One process at a time may change the file. */
export async function dropInstallationKeys(file: string, ids: ReadonlySet<string>): Promise<void> {
  const kept = (await readInstallationKeys(file)).filter(({ id }) => !ids.has(id));
  await replaceKeys(file, kept);
}

/** All at once, also for a power cut: what is encrypted next must not outlive its key. */
async function replaceKeys(file: string, keys: readonly InstallationKey[]): Promise<void> {
  const { uid, gid } = await stat(file);
  // Always the same name, so that a killed process leaves no keys behind that nobody removes.
  const draft = `${file}.draft`;
  await rm(draft, { force: true });
  await writeFile(draft, textOf(keys), { mode: 0o600, flag: 'wx', flush: true });
  // An operator who is root leaves the file to the user of the manager.
  if (process.getuid?.() === 0) await chown(draft, uid, gid);
  await rename(draft, file);
  const folder = await open(dirname(file));
  await folder.sync().finally(() => folder.close());
}

function newKey(): InstallationKey {
  return keyOf(randomBytes(32).toString('base64url'));
}

function keyOf(line: string): InstallationKey {
  const bytes = Buffer.from(line, 'base64url');
  return { id: createHash('sha256').update('key id').update(bytes).digest('hex').slice(0, 12), bytes };
}

function textOf(keys: readonly InstallationKey[]): string {
  return keys.map(({ bytes }) => `${bytes.toString('base64url')}\n`).join('');
}
