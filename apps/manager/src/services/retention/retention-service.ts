import type { Logger } from '@backend.ai/telemetry';
import { BusinessLog } from '../../events.ts';
import type { Kept, RetentionRepository } from '../../repositories/retention.ts';

export interface Retention {
  /** Rows older than this go, in milliseconds. */
  readonly olderThanMs: number;
  /** Only count. */
  readonly dryRun: boolean;
}

export interface Removed {
  /** How many rows went, or would go. */
  readonly count: number;
  /** The same by kind. */
  readonly kinds: Readonly<Partial<Record<Kept, number>>>;
  readonly dryRun: boolean;
}

/** Short statements, so that sessions that start meanwhile do not wait. */
const portion = 1_000;

/** Removes what is of no use any more. Safe to interrupt and to run twice. */
export class RetentionService {
  readonly #rows: RetentionRepository;
  readonly #log: BusinessLog;

  constructor(rows: RetentionRepository, logger: Logger) {
    this.#rows = rows;
    this.#log = new BusinessLog(logger);
  }

  /** State changes of sessions that have ended, what was used, and the audit log. The sessions themselves stay. */
  async clearHistory(retention: Retention): Promise<Removed> {
    const removed = await this.#remove(['history', 'usage', 'audit'], retention);
    if (!removed.dryRun) this.#log.historyCleared(removed.count, retention.olderThanMs);
    return removed;
  }

  /** Sessions that have ended, with everything that is kept of them. */
  async vacuumSessions(retention: Retention): Promise<Removed> {
    const removed = await this.#remove(['sessions'], retention);
    if (!removed.dryRun) this.#log.sessionsVacuumed(removed.count, retention.olderThanMs);
    return removed;
  }

  async #remove(all: readonly Kept[], { olderThanMs, dryRun }: Retention): Promise<Removed> {
    const kinds: Partial<Record<Kept, number>> = {};
    let count = 0;
    for (const kept of all) {
      const removed = dryRun
        ? await this.#rows.count(kept, olderThanMs)
        : await inPortions((limit) => this.#rows.delete(kept, olderThanMs, limit));
      kinds[kept] = removed;
      count += removed;
    }
    return { count, kinds, dryRun };
  }
}

async function inPortions(remove: (limit: number) => Promise<number>): Promise<number> {
  for (let total = 0; ; ) {
    const removed = await remove(portion);
    total += removed;
    if (removed < portion) return total;
  }
}
