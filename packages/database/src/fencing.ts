import { AppError } from '@backend.ai/core';
import { type SQL, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { leases } from './schema/coordination.ts';

/** The lease whose epoch fences the writes of the leading manager. */
export const leaderLease = 'manager-leader';

function leaderRow(epoch: number): SQL {
  // FOR SHARE orders the write against elections: one that commits first is seen, a later one waits for this write.
  return sql`select 1 from ${leases} where ${leases.name} = ${leaderLease} and ${leases.epoch} = ${epoch} for share`;
}

/**
 * A condition for the WHERE of a leader's UPDATE or DELETE: `and(…, fencedBy(epoch))`. With a newer leader elected the
 * statement changes no row.
 */
export function fencedBy(epoch: number): SQL {
  return sql`exists (${leaderRow(epoch)})`;
}

/**
 * The same for a transaction: call it first; until the end of the transaction nobody else becomes leader.
 * @throws AppError `stale-epoch`
 */
export async function requireEpoch(tx: Pick<Database, 'execute'>, epoch: number): Promise<void> {
  const found = await tx.execute(leaderRow(epoch));
  if (found.length === 0) {
    throw new AppError('stale-epoch', 'This manager no longer leads.', { data: { epoch } });
  }
}
