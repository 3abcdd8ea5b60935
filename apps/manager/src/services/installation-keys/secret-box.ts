import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { AppError } from '@backend.ai/core';
import type { InstallationKey } from './key-file.ts';

/**
 * Encrypts secrets that must be recoverable (AES-256-GCM). A ciphertext names its key, so that several can be in use
 * while secrets move from one to the next: `v1.<key id>.<nonce>.<ciphertext and tag>`.
 */
export class SecretBox {
  #keys: ReadonlyMap<string, Buffer> = new Map();
  #current = '';
  readonly #file: string;

  /**
   * @param file Where the keys come from, for who has to put another one there
   * @throws AppError as `use`
   */
  constructor(keys: readonly InstallationKey[], current: string, file: string) {
    this.#file = file;
    this.use(keys, current);
  }

  get currentKeyId(): string {
    return this.#current;
  }

  /**
   * From now on these keys and no others: all of them decrypt, `current` encrypts.
   * @throws AppError `config-invalid` when `current` is not among them: the box is as it was
   */
  use(keys: readonly InstallationKey[], current: string): void {
    if (!keys.some(({ id }) => id === current)) throw this.#absent(current);
    this.#keys = new Map(keys.map(({ id, bytes }) => [id, bytes]));
    this.#current = current;
  }

  /** @throws AppError `config-invalid` when that key is not here */
  requireKey(id: string): Buffer {
    const key = this.#keys.get(id);
    if (!key) throw this.#absent(id);
    return key;
  }

  /** @param context What the secret belongs to: a ciphertext moved to another row does not decrypt. */
  encrypt(secret: string, context: string): string {
    const nonce = randomBytes(12);
    const key = this.requireKey(this.#current);
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(context));
    const sealed = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return ['v1', this.#current, nonce.toString('base64url'), sealed.toString('base64url')].join('.');
  }

  /** @throws AppError `config-invalid` when the key is not there, `internal` when the text was changed */
  decrypt(text: string, context: string): string {
    const [version, keyId = '', nonce = '', sealed = ''] = text.split('.');
    if (version !== 'v1') throw this.#absent(keyId);
    const key = this.requireKey(keyId);
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

  #absent(keyId: string): AppError {
    return new AppError('config-invalid', 'The installation key of this manager is not that of the database.', {
      hint: `Copy the key file of another manager, or of a backup, to ${this.#file}`,
      detail: { keyId },
    });
  }
}
