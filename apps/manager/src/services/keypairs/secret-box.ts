import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { chmod, link, mkdir, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError, newId } from '@backend.ai/core';

/**
 * Encrypts secrets that must be recoverable (AES-256-GCM). A ciphertext names its key, so that several can be in use
 * while secrets move from one to the next: `v1.<key id>.<nonce>.<ciphertext and tag>`.
 *
 * The key file holds one key per line in base64url; the first encrypts, all decrypt.
 */
export class SecretBox {
  readonly #keys: ReadonlyMap<string, Buffer>;
  readonly #current: { readonly id: string; readonly key: Buffer };
  readonly #file: string;

  /** @param file Where the keys come from, for who has to put another one there. */
  constructor(keys: readonly Buffer[], file: string) {
    const [first] = keys;
    if (!first || keys.some((key) => key.length !== 32)) {
      throw new AppError('config-invalid', 'An installation key has 32 bytes.');
    }
    this.#keys = new Map(keys.map((key) => [keyIdOf(key), key]));
    this.#current = { id: keyIdOf(first), key: first };
    this.#file = file;
  }

  get currentKeyId(): string {
    return this.#current.id;
  }

  /** @param context What the secret belongs to: a ciphertext moved to another row does not decrypt. */
  encrypt(secret: string, context: string): string {
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#current.key, nonce).setAAD(Buffer.from(context));
    const sealed = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return ['v1', this.#current.id, nonce.toString('base64url'), sealed.toString('base64url')].join('.');
  }

  /** @throws AppError `config-invalid` when the key is not there, `internal` when the text was changed */
  decrypt(text: string, context: string): string {
    const [version, keyId = '', nonce = '', sealed = ''] = text.split('.');
    const key = this.#keys.get(keyId);
    if (version !== 'v1' || !key) {
      throw new AppError('config-invalid', 'The installation key of this manager is not that of the database.', {
        hint: `Copy the key file of another manager, or of a backup, to ${this.#file}`,
        detail: { keyId },
      });
    }
    const bytes = Buffer.from(sealed, 'base64url');
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(nonce, 'base64url'))
        .setAAD(Buffer.from(context))
        .setAuthTag(bytes.subarray(-16));
      return decipher.update(bytes.subarray(0, -16), undefined, 'utf8') + decipher.final('utf8');
    } catch (cause) {
      throw new AppError('internal', 'A stored secret could not be decrypted.', { cause });
    }
  }

  isCurrent(text: string): boolean {
    return text.split('.')[1] === this.#current.id;
  }
}

function keyIdOf(key: Buffer): string {
  return createHash('sha256').update('key id').update(key).digest('hex').slice(0, 12);
}

/** @throws AppError `config-invalid` when there is no such file */
export async function openSecretBox(file: string): Promise<SecretBox> {
  const keys = await readKeys(file);
  if (keys) return new SecretBox(keys, file);
  throw new AppError('config-invalid', `The installation key file ${file} is not there.`, {
    hint: 'Copy that of a manager of this installation, or of a backup, to this place.',
  });
}

/** Makes the file when it is not there. Two processes that race for it end up with the same key. */
export async function makeSecretBox(file: string): Promise<SecretBox> {
  const keys = (await readKeys(file)) ?? (await createKeyFile(file));
  return new SecretBox(keys, file);
}

/** Puts a new key in front; secrets move to it when they are next re-encrypted. */
export async function addInstallationKey(file: string): Promise<SecretBox> {
  const keys = [randomBytes(32), ...((await readKeys(file)) ?? [])];
  const draft = `${file}.${newId()}`;
  await writeFile(draft, keys.map((key) => `${key.toString('base64url')}\n`).join(''), {
    mode: 0o600,
    flag: 'wx',
    flush: true,
  });
  await rename(draft, file);
  return new SecretBox(keys, file);
}

async function readKeys(file: string): Promise<Buffer[] | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new AppError('config-invalid', `The installation key file ${file} cannot be read.`, { cause: error });
  }
  await chmod(file, 0o600);
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => Buffer.from(line, 'base64url'));
}

async function createKeyFile(file: string): Promise<Buffer[]> {
  await mkdir(dirname(file), { recursive: true });
  const draft = `${file}.${newId()}`;
  await writeFile(draft, `${randomBytes(32).toString('base64url')}\n`, { mode: 0o600, flag: 'wx', flush: true });
  try {
    await link(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await unlink(draft);
  }
  const keys = await readKeys(file);
  if (!keys)
    throw new AppError('config-invalid', `The installation key file ${file} vanished while it was being made.`);
  return keys;
}
