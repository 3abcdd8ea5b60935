import { createHash } from 'node:crypto';
import type { PeerKind } from '@backend.ai/contract';
import { AppError, type Clock, newId } from '@backend.ai/core';
import { type JoiningPeer, newJoinToken, type PeerDirectory, type PeerIdentity } from '@backend.ai/rpc';
import { type Logger, requireRequestId } from '@backend.ai/telemetry';
import { BusinessLog } from '../../events.ts';
import type { PeerRecord, PeerRepository } from '../../repositories/peers.ts';
import { toIso } from '../sessions/session-view.ts';

export interface IssuedToken {
  /** See `JoinToken` of @backend.ai/rpc. */
  readonly token: string;
  readonly expiresAt: string;
}

const defaultTtlMs = 3_600_000;
const longestTtlMs = 366 * 24 * 3_600_000;
/** Agents learn of another manager this much later at most, besides their heartbeat. */
const keysFreshMs = 2_000;

/** Who may connect: joining by single-use tokens, finding, revoking. */
export class PeerService {
  readonly #peers: PeerRepository;
  readonly #clock: Clock;
  readonly #log: BusinessLog;
  #managerKeys: { readonly readAt: number; readonly keys: Promise<string[]> } | undefined;
  readonly #onRevoked: Array<() => void> = [];

  constructor(peers: PeerRepository, clock: Clock, logger: Logger) {
    this.#peers = peers;
    this.#clock = clock;
    this.#log = new BusinessLog(logger);
  }

  /**
   * For one peer, once. It names the keys of all managers, so that the peer may come to any of them.
   * @throws AppError `invalid-input`, `state-conflict` when there is no manager yet
   */
  async createToken(options: { kind: PeerKind; resourceGroup?: string; ttlMs?: number }): Promise<IssuedToken> {
    const { ttlMs = defaultTtlMs } = options;
    if (options.kind === 'manager')
      throw new AppError('invalid-input', 'Managers register themselves, without a token.', {
        hint: 'Copy the installation key of another manager to its place, then: ./backend.ai mgr start-server',
      });
    if (ttlMs > longestTtlMs) {
      throw new AppError('invalid-input', 'A join token may be used within a year at most.', {
        hint: 'Name less: ./backend.ai mgr peers token agent --ttl 1d',
      });
    }
    const managerKeys = await this.#peers.publicKeysOf('manager');
    if (managerKeys.length === 0) {
      throw new AppError('state-conflict', 'No manager has registered yet, so a token could not tell whom to obey.', {
        hint: 'Start one first: ./backend.ai mgr start-server',
      });
    }
    const token = newJoinToken(managerKeys).text;
    const expiresAt = await this.#peers.createToken({
      id: newId(),
      tokenHash: hashOf(token),
      kind: options.kind,
      resourceGroup: options.resourceGroup ?? null,
      ttlMs,
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
    const requestId = requireRequestId();
    const outcome = await this.#peers.join({ tokenHash: hashOf(token), kind, id, publicKey, requestId });
    if (outcome === 'known') return;
    if (outcome === 'name-taken') {
      throw new AppError('peer-rejected', `Another peer with a key of its own is called "${id}".`, {
        hint: `Join under another name; or, if that peer is gone for good: ./backend.ai mgr peers revoke ${id}`,
      });
    }
    if (outcome === 'no-token') {
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

  /** Whom agents may take orders from: the keys of all managers that are not revoked. */
  managerKeys(): Promise<string[]> {
    const now = this.#clock.monotonic();
    if (this.#managerKeys === undefined || now - this.#managerKeys.readAt > keysFreshMs) {
      const keys = this.#peers.publicKeysOf('manager');
      this.#managerKeys = { readAt: now, keys };
      keys.catch(() => {
        this.#managerKeys = undefined;
      });
    }
    return this.#managerKeys.keys;
  }

  /**
   * Registers a manager, so that agents can be told the keys of all managers.
   * @throws AppError `config-invalid` when its name is another peer's, or its key was revoked
   */
  async registerManager({ id, publicKey }: PeerIdentity): Promise<void> {
    const outcome = await this.#peers.registerManager({ id, publicKey, requestId: requireRequestId() });
    if (outcome === 'registered') return;
    throw outcome === 'revoked'
      ? new AppError('config-invalid', `The manager "${id}" was revoked, and still has the key that it had then.`, {
          hint: 'To let it in again, remove its key file (keys.identity-file): it makes a new key when it starts.',
        })
      : new AppError('config-invalid', `Another peer with a key of its own is called "${id}".`, {
          hint: `Give each manager a manager.id of its own; or, if that one is gone for good: ./backend.ai mgr peers revoke ${id}`,
        });
  }

  async list(): Promise<PeerRecord[]> {
    const iso = (text: string | null): string | null => (text === null ? null : toIso(text));
    return (await this.#peers.list()).map((peer) => ({
      ...peer,
      createdAt: toIso(peer.createdAt),
      revokedAt: iso(peer.revokedAt),
      lastSeenAt: iso(peer.lastSeenAt),
    }));
  }

  /** @throws AppError `object-not-found` */
  async revoke(id: string): Promise<void> {
    const peer = (await this.#peers.list()).find((known) => known.id === id);
    if (!peer) throw new AppError('object-not-found', `There is no peer "${id}".`);
    if (await this.#peers.revoke(id)) this.#log.peerRevoked(id);
    for (const tell of this.#onRevoked) tell();
  }

  /** Tells which peers are registered now, with the keys they present: others may be cut off. */
  async knownNow(): Promise<(peer: JoiningPeer) => boolean> {
    const keys = new Map<string, string>();
    for (const { kind, id, publicKey, revokedAt } of await this.#peers.list()) {
      if (revokedAt === null) keys.set(`${kind} ${id}`, publicKey);
    }
    return ({ kind, id, publicKey }) => keys.get(`${kind} ${id}`) === publicKey;
  }

  /** Somebody was revoked here. Revocations elsewhere are found by asking `knownNow` from time to time. */
  onRevoked(listener: () => void): void {
    this.#onRevoked.push(listener);
  }
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
