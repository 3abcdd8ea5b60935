import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';
import { chmod, readFile } from 'node:fs/promises';
import type { PeerKind } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { makeSecretFile } from '@backend.ai/runtime';

/** Who a process is towards its peers: a kind, a name, and an Ed25519 key pair that proves it. */
export interface PeerIdentity {
  readonly kind: PeerKind;
  readonly id: string;
  /** The raw 32 bytes in base64url; safe to show. */
  readonly publicKey: string;
  readonly privateKey: KeyObject;
}

/** What a server knows about the peers that may connect. */
export interface PeerDirectory {
  /**
   * The public key under which this peer is registered; undefined for unknown and revoked ones.
   * `presentedKey` is what the peer claims, for directories that know keys but no names.
   */
  find(kind: PeerKind, id: string, presentedKey: string): Promise<string | undefined>;
  /** Spends a single-use token to register a key. @throws AppError `peer-rejected` when the token is not valid */
  join?(token: string, peer: JoiningPeer): Promise<void>;
}

export interface JoiningPeer {
  readonly kind: PeerKind;
  readonly id: string;
  readonly publicKey: string;
}

/** The directory of a process that trusts a list of keys of one kind, whatever their owners are called. */
export function pinnedKeys(kind: PeerKind, publicKeys: readonly string[] | (() => readonly string[])): PeerDirectory {
  const present = typeof publicKeys === 'function' ? publicKeys : () => publicKeys;
  return {
    find: async (peerKind, _id, presentedKey) =>
      peerKind === kind && present().includes(presentedKey) ? presentedKey : undefined,
  };
}

export const peerIdPattern: RegExp = /^[A-Za-z0-9._:-]{1,128}$/;

export function generateIdentity(kind: PeerKind, id: string): PeerIdentity {
  checkId(id);
  return toIdentity(kind, id, createPrivateKey(newPrivateKey()));
}

/**
 * The identity whose private key is kept in `file` (PKCS#8 PEM, mode 0600); made at the first call. Two processes that
 * race for the first call end up with the same key.
 * @throws AppError `config-invalid` when the file holds something else or others may read it
 */
export async function loadOrCreateIdentity(file: string, kind: PeerKind, id: string): Promise<PeerIdentity> {
  checkId(id);
  const existing = await readKey(file);
  if (existing) return toIdentity(kind, id, existing);
  await makeSecretFile(file, newPrivateKey());
  const kept = await readKey(file);
  if (!kept) throw new AppError('config-invalid', `The key file ${file} vanished while it was being made.`);
  return toIdentity(kind, id, kept);
}

/**
 * As text: a KeyObject of the generation itself shares a lock with what is left of that. Should it be collected as garbage
 * while the key is exported, Node.js (20) stands still for ever.
 */
function newPrivateKey(): string {
  return generateKeyPairSync('ed25519', {
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  }).privateKey;
}

async function readKey(file: string): Promise<KeyObject | undefined> {
  let pem: string;
  try {
    pem = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new AppError('config-invalid', `The key file ${file} cannot be read.`, { cause: error });
  }
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType !== 'ed25519') throw new Error(`a key of type ${key.asymmetricKeyType}`);
    // A copied or restored file may have come back readable for everybody.
    await chmod(file, 0o600);
    return key;
  } catch (error) {
    throw new AppError('config-invalid', `The key file ${file} does not hold an Ed25519 private key.`, {
      hint: 'Restore the file, or remove it and join the peer again with a new token.',
      cause: error,
    });
  }
}

function checkId(id: string): void {
  if (!peerIdPattern.test(id))
    throw new AppError('config-invalid', `"${id}" cannot name a peer: use letters, digits, ".", "_", ":" and "-".`);
}

function toIdentity(kind: PeerKind, id: string, privateKey: KeyObject): PeerIdentity {
  const { x } = createPublicKey(privateKey).export({ format: 'jwk' });
  return { kind, id, publicKey: x as string, privateKey };
}

export function signWith(identity: PeerIdentity, text: string): string {
  return sign(null, Buffer.from(text), identity.privateKey).toString('base64url');
}

/** Whether the owner of `publicKey` signed `text`. Malformed keys and signatures are simply wrong. */
export function isSignedBy(publicKey: string, text: string, signature: string): boolean {
  try {
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: publicKey }, format: 'jwk' });
    return verify(null, Buffer.from(text), key, Buffer.from(signature, 'base64url'));
  } catch {
    return false;
  }
}
