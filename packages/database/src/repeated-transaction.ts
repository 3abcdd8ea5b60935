import { backoffMs, delay, systemClock } from '@backend.ai/core';
import type { Database, Transaction } from './database.ts';
import { lostToAnother } from './database-errors.ts';

const pause = { initialMs: 1, maxMs: 50 };
/** Who loses so often does not lose by chance. */
const mostRepeats = 10;

/**
 * A transaction that is run again when it lost against another one, at its commit as well: it was rolled back and left
 * nothing behind. `work` uses the transaction alone, and may run several times.
 */
export async function repeatedTransaction<T>(
  db: Pick<Database, 'transaction'>,
  work: (tx: Transaction) => Promise<T>,
): Promise<T> {
  for (let lost = 0; ; lost++) {
    try {
      return await db.transaction(work);
    } catch (error) {
      if (lost === mostRepeats || !lostToAnother(error)) throw error;
    }
    await delay(systemClock, backoffMs(lost, pause));
  }
}
