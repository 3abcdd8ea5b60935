import { createPublicKey, generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';
import type { SshKeyPair } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { ClusterKeyRecord, ClusterKeyRepository } from '../../repositories/cluster-keys.ts';
import { secretContexts } from '../installation-keys/reencrypt.ts';
import type { SecretBox } from '../installation-keys/secret-box.ts';

const makeKeyPair = promisify(generateKeyPair);

/**
 * The key pair by which the kernels of one session reach one another: made when the first of them is ordered, and the same
 * for all of them and for each restart. RSA in PKCS #1, which every ssh program reads.
 */
export class ClusterKeys {
  readonly #keys: ClusterKeyRepository;
  readonly #box: SecretBox;
  /** Kernels of one session are ordered at the same moment. */
  readonly #underWay = new Map<string, Promise<SshKeyPair>>();

  constructor(keys: ClusterKeyRepository, box: SecretBox) {
    this.#keys = keys;
    this.#box = box;
  }

  ensure(sessionId: string): Promise<SshKeyPair> {
    const underWay = this.#underWay.get(sessionId);
    if (underWay) return underWay;
    const made = this.#ensure(sessionId).finally(() => this.#underWay.delete(sessionId));
    this.#underWay.set(sessionId, made);
    return made;
  }

  async #ensure(sessionId: string): Promise<SshKeyPair> {
    const found = (await this.#keys.find(sessionId)) ?? (await this.#make(sessionId));
    return {
      publicKey: found.publicKey,
      privateKey: this.#box.decrypt(found.privateKeyEncrypted, secretContexts.cluster(sessionId)),
    };
  }

  async #make(sessionId: string): Promise<ClusterKeyRecord> {
    // As texts: see `newPrivateKey` in packages/rpc.
    const { publicKey, privateKey } = await makeKeyPair('rsa', {
      modulusLength: 2048,
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    });
    await this.#keys.insert(sessionId, {
      publicKey: authorizedKey(createPublicKey(publicKey).export({ format: 'jwk' })),
      privateKeyEncrypted: this.#box.encrypt(privateKey, secretContexts.cluster(sessionId)),
    });
    // Another leader may have been first.
    const stored = await this.#keys.find(sessionId);
    if (!stored) throw new AppError('session-not-found', 'The session ended before its key pair was used.');
    return stored;
  }
}

/** The line of `authorized_keys` (RFC 4253, 6.6). */
function authorizedKey({ n = '', e = '' }: { readonly n?: string; readonly e?: string }): string {
  const fields = [Buffer.from('ssh-rsa'), ...[e, n].map(positiveInteger)];
  const blob = Buffer.concat(fields.flatMap((field) => [lengthOf(field), field]));
  return `ssh-rsa ${blob.toString('base64')} work@cluster.backend.ai.local`;
}

/** A leading zero keeps the highest bit from being read as a sign. */
function positiveInteger(base64url: string): Buffer {
  const bytes = Buffer.from(base64url, 'base64url');
  return (bytes[0] ?? 0) < 0x80 ? bytes : Buffer.concat([Buffer.of(0), bytes]);
}

function lengthOf(field: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(field.length);
  return length;
}
