import { and, eq, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { leases } from './schema/coordination.ts';

/** Somebody else than the database says when a lease ends; the row keeps its epoch, which fences. */
const keptElsewhere = new Date(0);

/**
 * Begins the next epoch of a lease, for `holder`. From the moment that it is committed, writes under earlier epochs change
 * nothing (`fencedBy`).
 */
export async function nextEpoch(db: Database, name: string, holder: string): Promise<number> {
  const [row] = await db
    .insert(leases)
    .values({ name, holder, epoch: 1, expiresAt: keptElsewhere })
    .onConflictDoUpdate({
      target: leases.name,
      set: { holder, expiresAt: keptElsewhere, epoch: sql`${leases.epoch} + 1` },
    })
    .returning({ epoch: leases.epoch });
  return row!.epoch;
}

/** Whether no later epoch of the lease has begun. */
export async function isCurrentEpoch(db: Database, name: string, epoch: number): Promise<boolean> {
  const found = await db
    .select({ epoch: leases.epoch })
    .from(leases)
    .where(and(eq(leases.name, name), eq(leases.epoch, epoch)));
  return found.length > 0;
}
