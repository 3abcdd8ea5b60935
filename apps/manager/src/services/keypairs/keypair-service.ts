import { allow, isPlainText, type UserActor } from '@backend.ai/contract';
import type { LiveValues } from '@backend.ai/coordination';
import { AppError, type Clock, isHigherRole, type UserRole } from '@backend.ai/core';
import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';
import type { KeypairRepository } from '../../repositories/keypairs.ts';
import type { SecretBox } from '../installation-keys/secret-box.ts';
import { CallCounter } from './call-counter.ts';

export interface Keypair {
  readonly actor: UserActor;
  /** Of the user; that of the actor is what the key pair carries of it. */
  readonly userRole: UserRole;
  readonly secretKey: string;
  /** Requests per 15 minutes; 0 is unlimited. */
  readonly rateLimit: number;
}

const windowMs = 900_000;
const maxCached = 10_000;
/** How long nothing is counted after counting failed. */
const uncountedMs = 1_000;
const markEveryMs = 60_000;

export class KeypairService {
  readonly #keypairs: KeypairRepository;
  readonly #box: SecretBox;
  readonly #calls: CallCounter;
  readonly #clock: Clock;
  readonly #cacheMs: number;
  readonly #logger: Logger;
  readonly #tasks: BackgroundTasks;
  readonly #markedAt = new Map<string, number>();
  #uncountedUntil = Number.NEGATIVE_INFINITY;
  readonly #cache = new Map<string, { readonly keypair: Promise<Keypair | undefined>; readonly until: number }>();

  constructor(options: {
    keypairs: KeypairRepository;
    box: SecretBox;
    liveValues: LiveValues;
    clock: Clock;
    cacheMs: number;
    logger: Logger;
    tasks: BackgroundTasks;
  }) {
    this.#keypairs = options.keypairs;
    this.#box = options.box;
    this.#calls = new CallCounter(options.liveValues, options.clock, windowMs);
    this.#clock = options.clock;
    this.#cacheMs = options.cacheMs;
    this.#logger = options.logger;
    this.#tasks = options.tasks;
  }

  /** Undefined for unknown and for inactive keys. A deactivated key works for at most the time of the cache. */
  find(accessKey: string): Promise<Keypair | undefined> {
    const now = this.#clock.monotonic();
    const cached = this.#cache.get(accessKey);
    if (cached && cached.until > now) return cached.keypair;
    const keypair = this.#load(accessKey);
    if (this.#cache.size >= maxCached) this.#cache.clear();
    this.#cache.set(accessKey, { keypair, until: now + this.#cacheMs });
    // Failures and unknown keys are not remembered: a new key works at once.
    keypair.then(
      (found) => found ?? this.#cache.delete(accessKey),
      () => this.#cache.delete(accessKey),
    );
    return keypair;
  }

  forgetAll(): void {
    this.#cache.clear();
  }

  /**
   * Who is meant when `actor` acts for the owner of a key pair: that owner, with the owner's rights.
   * @throws AppError `invalid-input` for a key that is unknown or inactive, `impersonation-forbidden`
   */
  async actFor(actor: UserActor, ownerAccessKey: string): Promise<UserActor> {
    if (ownerAccessKey === actor.accessKey) return actor;
    const owner = await this.find(ownerAccessKey);
    const forbidden = new AppError('impersonation-forbidden', `You may not act for the owner of ${ownerAccessKey}.`);
    if (!owner) {
      // Whether a key exists is told to those only who may act for others.
      if (!allow(actor, 'account:impersonate', { domain: actor.domain })) throw forbidden;
      throw new AppError('invalid-input', 'Unknown owner access key', {
        data: { fields: { owner_access_key: 'is no active access key' } },
      });
    }
    // A key pair of few rights reaches all that its user owns: of others it is the user's role that counts.
    const role = owner.actor.userId === actor.userId ? owner.actor.role : owner.userRole;
    if (isHigherRole(role, actor.role) || !allow(actor, 'account:impersonate', owner.actor)) throw forbidden;
    return { ...owner.actor, by: { userId: actor.userId, accessKey: actor.accessKey } };
  }

  /**
   * Counts calls in the window of 900 seconds. Negative `remaining`: these are too many. While live values are away
   * nothing is counted and everything passes: sessions that run are worth more than an exact limit.
   */
  async countCalls(accessKey: string, calls: number): Promise<{ limit: number; remaining: number }> {
    this.#markUsed(accessKey);
    const limit = (await this.find(accessKey))?.rateLimit ?? 0;
    if (limit === 0) return { limit, remaining: 0 };
    if (this.#clock.monotonic() < this.#uncountedUntil) return { limit, remaining: limit };
    try {
      return { limit, remaining: limit - (await this.#calls.count(accessKey, calls, limit)) };
    } catch (error) {
      // Others need not wait for the same failure.
      this.#uncountedUntil = this.#clock.monotonic() + uncountedMs;
      this.#logger.warn('calls cannot be counted and pass', { error });
      return { limit, remaining: limit };
    }
  }

  /** In the background, once a minute for each key pair at most. */
  #markUsed(accessKey: string): void {
    const now = this.#clock.monotonic();
    const marked = this.#markedAt.get(accessKey);
    if (marked !== undefined && now - marked < markEveryMs) return;
    if (this.#markedAt.size >= maxCached) this.#markedAt.clear();
    this.#markedAt.set(accessKey, now);
    this.#tasks.start('mark key pair as used', () => this.#keypairs.markUsed(accessKey));
  }

  projectsOf(userId: string): Promise<string[]> {
    return this.#keypairs.projectsOf(userId);
  }

  async #load(accessKey: string): Promise<Keypair | undefined> {
    // No key has what the database cannot even be asked for.
    if (!isPlainText(accessKey)) return undefined;
    const row = await this.#keypairs.findActive(accessKey);
    if (!row) return undefined;
    const { userId, email, domain } = row;
    // Without the administrator's flag a key pair has the rights of an ordinary user, whoever's it is.
    const role = row.isAdmin ? row.role : 'user';
    return {
      actor: { kind: 'user', accessKey, userId, email, role, domain },
      userRole: row.role,
      secretKey: this.#box.decrypt(row.secretKeyEncrypted, accessKey),
      rateLimit: row.rateLimit,
    };
  }
}
