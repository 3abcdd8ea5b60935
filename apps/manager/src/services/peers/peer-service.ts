import { createHash, randomBytes } from 'node:crypto';
import type { PeerKind } from '@backend.ai/contract';
import { AppError, newId } from '@backend.ai/core';
import type { JoiningPeer, PeerDirectory, PeerIdentity } from '@backend.ai/rpc';
import { type Logger, requireRequestId } from '@backend.ai/telemetry';
import { BusinessLog } from '../../events.ts';
import type { PeerRecord, PeerRepository } from '../../repositories/peers.ts';

export interface JoinToken {
  /** Its text: the secret, and the public key of the manager that the peer pins. */
  readonly token: string;
  readonly expiresAt: string;
}

const defaultTtlMs = 3_600_000;

/** Who may connect: joining by single-use tokens, finding, revoking. */
export class PeerService {
  readonly #peers: PeerRepository;
  readonly #identity: PeerIdentity;
  readonly #log: BusinessLog;
  readonly #onRevoked: Array<(peer: PeerRecord) => void> = [];

  constructor(peers: PeerRepository, identity: PeerIdentity, logger: Logger) {
    this.#peers = peers;
    this.#identity = identity;
    this.#log = new BusinessLog(logger);
  }

  async createToken(options: { kind: PeerKind; resourceGroup?: string; ttlMs?: number }): Promise<JoinToken> {
    const secret = randomBytes(24).toString('base64url');
    const token = `bai1.${this.#identity.publicKey}.${secret}`;
    const expiresAt = await this.#peers.createToken({
      id: newId(),
      tokenHash: hashOf(token),
      kind: options.kind,
      resourceGroup: options.resourceGroup ?? null,
      ttlMs: options.ttlMs ?? defaultTtlMs,
    });
    return { token, expiresAt: new Date(expiresAt).toISOString() };
  }

  /** For the RPC server: whose key is whose. */
  get directory(): PeerDirectory {
    return {
      find: async (kind, id) => {
        const peer = await this.#peers.find(kind, id);
        return peer && peer.revokedAt === null ? peer.publicKey : undefined;
      },
      join: (token, peer) => this.#join(token, peer),
    };
  }

  async #join(token: string, peer: JoiningPeer): Promise<void> {
    const { kind, id, publicKey } = peer;
    if (!(await this.#peers.join({ tokenHash: hashOf(token), kind, id, publicKey, requestId: requireRequestId() }))) {
      throw new AppError('peer-rejected', 'The join token is unknown, used, expired, or for another kind of peer.', {
        hint: 'Ask an administrator of the manager for a new one.',
      });
    }
    this.#log.peerJoined(kind, id);
  }

  async publicKeyOf(kind: PeerKind, id: string): Promise<string | undefined> {
    const peer = await this.#peers.find(kind, id);
    return peer && peer.revokedAt === null ? peer.publicKey : undefined;
  }

  async resourceGroupOf(kind: PeerKind, id: string): Promise<string | null> {
    return (await this.#peers.find(kind, id))?.resourceGroup ?? null;
  }

  /** Registers this manager, so that agents can be told the keys of all managers. */
  async registerSelf(): Promise<void> {
    const { kind, id, publicKey } = this.#identity;
    await this.#peers.ensure({ kind, id, publicKey, resourceGroup: null, requestId: requireRequestId() });
  }

  list(): Promise<PeerRecord[]> {
    return this.#peers.list();
  }

  /** @throws AppError `object-not-found` */
  async revoke(id: string): Promise<void> {
    const peer = (await this.#peers.list()).find((known) => known.id === id);
    if (!peer) throw new AppError('object-not-found', `There is no peer "${id}".`);
    if (await this.#peers.revoke(id)) this.#log.peerRevoked(id);
    for (const tell of this.#onRevoked) tell(peer);
  }

  /** The connections of a revoked peer are cut by whoever holds them. */
  onRevoked(listener: (peer: PeerRecord) => void): void {
    this.#onRevoked.push(listener);
  }
}

/** The part of a token that a joining peer pins. */
export function managerKeyOfToken(token: string): string | undefined {
  const [version, publicKey] = token.split('.');
  return version === 'bai1' ? publicKey : undefined;
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
