import { AppError, type Clock, systemClock } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { EtcdLeaseInvalidError, type ILeaseKeepAliveResponse } from 'etcd3';
import type { Lease, Leases } from '../leases.ts';
import type { EtcdServer } from './etcd-server.ts';

/** Epochs are counted where the writes are that they fence: in the database. */
export interface LeaseEpochs {
  /** Begins the next epoch of a lease; from then on writes under earlier ones are refused. */
  next(name: string, holder: string): Promise<number>;
  isCurrent(name: string, epoch: number): Promise<boolean>;
}

export interface EtcdLeasesOptions {
  readonly server: EtcdServer;
  readonly epochs: LeaseEpochs;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
}

const keyOf = (name: string): string => `leases/${name}`;
/** A renewal has to leave time for another one. */
const renewDeadlineMs = 2_000;

/**
 * Leases in etcd: who holds the key of a role has it, for as long as its lease there lives. etcd decides who may begin an
 * epoch; the database counts epochs, and refuses the writes of all but the last one.
 *
 * Two may believe to hold: one that was stopped, or whose epoch was counted late. The later epoch wins in the database, and
 * a renewal finds out, as it asks both. A holder never counts on etcd's clock: its time is over when its own clock says so,
 * counted from before it asked, which is before etcd's can be.
 */
export class EtcdLeases implements Leases {
  readonly #options: Required<Pick<EtcdLeasesOptions, 'server' | 'epochs' | 'logger'>> & { readonly clock: Clock };
  /** Leases of ours in etcd that could not be given back, by role. */
  readonly #abandoned = new Map<string, Set<string>>();

  constructor(options: EtcdLeasesOptions) {
    this.#options = { ...options, clock: options.clock ?? systemClock };
  }

  async acquire(name: string, holder: string, ttlMs: number): Promise<Lease | null> {
    const { server, epochs, logger, clock } = this.#options;
    const askedAt = clock.monotonic();
    for (const id of this.#abandoned.get(name) ?? []) await this.#revoke(name, id);
    // A look is cheaper than three writes, and most who ask find somebody else.
    if ((await server.run((keys) => keys.get(keyOf(name)).exec())).kvs.length > 0) return null;
    const { ID: id } = await server.run((keys) => keys.leaseClient.leaseGrant({ TTL: Math.ceil(ttlMs / 1_000) }));
    try {
      const { succeeded } = await server.run((keys) =>
        keys
          .if(keyOf(name), 'Create', '==', 0)
          .then(keys.put(keyOf(name)).value(holder).lease(id))
          .commit(),
      );
      if (succeeded) {
        const epoch = await epochs.next(name, holder);
        const expiresAt = askedAt + ttlMs;
        if (clock.monotonic() < expiresAt) return this.#lease({ name, holder, epoch, ttlMs, id, expiresAt });
        // Whoever has the role by now may have the earlier epoch; its next renewal finds out, and it begins a later one.
        logger.warn('lease expired before its epoch was counted', { lease: name, holder, epoch });
      }
      await this.#abandon(name, id);
      return null;
    } catch (error) {
      await this.#abandon(name, id);
      throw error;
    }
  }

  #lease(held: Omit<Lease, 'renew' | 'release'> & { ttlMs: number; id: string; expiresAt: number }): Lease {
    const { epochs, clock } = this.#options;
    const { name, holder, epoch, ttlMs, id } = held;
    let { expiresAt } = held;
    let lost = false;
    const renew = async (): Promise<boolean> => {
      const askedAt = clock.monotonic();
      lost ||= askedAt >= expiresAt;
      lost ||= (await this.#keepAlive(id)) <= 0;
      lost ||= !(await epochs.isCurrent(name, epoch));
      if (!lost) expiresAt = askedAt + ttlMs;
      return !lost;
    };
    const release = (): Promise<void> => {
      lost = true;
      return this.#abandon(name, id);
    };
    return { name, holder, epoch, renew, release };
  }

  /** Seconds that it lives from now on; zero when it is over. */
  #keepAlive(id: string): Promise<number> {
    return this.#options.server.run(async (keys) => {
      const stream = await keys.leaseClient.leaseKeepAlive({ deadline: Date.now() + renewDeadlineMs });
      try {
        const answer = await new Promise<ILeaseKeepAliveResponse>((resolve, reject) => {
          stream.on('data', resolve);
          stream.on('error', reject);
          stream.on('end', () => reject(new AppError('connection-lost', 'etcd ended the renewal of a lease.')));
          stream.write({ ID: id });
        });
        return Number(answer.TTL);
      } finally {
        stream.end();
      }
    });
  }

  /** Gives a lease back, now or, if etcd cannot be asked, when the role is wanted again. It ends by itself, too. */
  async #abandon(name: string, id: string): Promise<void> {
    const ids = this.#abandoned.get(name) ?? new Set();
    this.#abandoned.set(name, ids.add(id));
    await this.#revoke(name, id).catch((error: unknown) =>
      this.#options.logger.warn('lease could not be given back', { lease: name, error }),
    );
  }

  async #revoke(name: string, id: string): Promise<void> {
    await this.#options.server.run((keys) =>
      keys.leaseClient.leaseRevoke({ ID: id }).catch((error: unknown) => {
        if (!(error instanceof EtcdLeaseInvalidError)) throw error;
      }),
    );
    this.#abandoned.get(name)?.delete(id);
  }
}
