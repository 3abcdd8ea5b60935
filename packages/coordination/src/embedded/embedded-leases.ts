import { type Clock, systemClock } from '@backend.ai/core';
import { type Database, leases } from '@backend.ai/database';
import { and, eq, gt, lte, sql } from 'drizzle-orm';
import type { Lease, Leases } from '../leases.ts';

/** Leases as rows of the embedded database, on the clock of this process, the only one that uses it. */
export class EmbeddedLeases implements Leases {
  readonly #db: Database;
  readonly #clock: Clock;

  private constructor(db: Database, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
  }

  /**
   * Ends all leases of the process that had the database before: the lock of the data directory proves that it is gone,
   * and a start after a crash must not wait for them. One object per database.
   */
  static async open(db: Database, clock: Clock = systemClock): Promise<EmbeddedLeases> {
    await db.update(leases).set({ expiresAt: new Date(0) });
    return new EmbeddedLeases(db, clock);
  }

  async acquire(name: string, holder: string, ttlMs: number): Promise<Lease | null> {
    const now = this.#clock.now();
    const expiresAt = new Date(now + ttlMs);
    const [row] = await this.#db
      .insert(leases)
      .values({ name, holder, epoch: 1, expiresAt })
      .onConflictDoUpdate({
        target: leases.name,
        set: { holder, expiresAt, epoch: sql`${leases.epoch} + 1` },
        setWhere: lte(leases.expiresAt, new Date(now)),
      })
      .returning({ epoch: leases.epoch });
    if (!row) return null;
    const { epoch } = row;
    return {
      name,
      holder,
      epoch,
      renew: () => this.#renew(name, epoch, ttlMs),
      release: () => this.#release(name, epoch),
    };
  }

  async #renew(name: string, epoch: number, ttlMs: number): Promise<boolean> {
    const now = this.#clock.now();
    const renewed = await this.#db
      .update(leases)
      .set({ expiresAt: new Date(now + ttlMs) })
      .where(and(eq(leases.name, name), eq(leases.epoch, epoch), gt(leases.expiresAt, new Date(now))))
      .returning({ epoch: leases.epoch });
    return renewed.length > 0;
  }

  async #release(name: string, epoch: number): Promise<void> {
    await this.#db
      .update(leases)
      .set({ expiresAt: new Date(0) })
      .where(and(eq(leases.name, name), eq(leases.epoch, epoch)));
  }
}
