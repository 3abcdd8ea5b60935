import type { Logger } from '@backend.ai/telemetry';
import { BusinessLog } from '../../events.ts';
import type { RetentionRepository } from '../../repositories/retention.ts';

export interface Retention {
  /** Rows older than this go, in milliseconds. */
  readonly olderThanMs: number;
  /** Only count. */
  readonly dryRun: boolean;
}

export interface Removed {
  /** How many rows went, or would go. */
  readonly count: number;
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
  async clearHistory({ olderThanMs, dryRun }: Retention): Promise<Removed> {
    const rows = this.#rows;
    if (dryRun) {
      const [history, usage] = [await rows.countHistory(olderThanMs), await rows.countUsage(olderThanMs)];
      return { count: history + usage + (await rows.countAudit(olderThanMs)), dryRun };
    }
    const history = await inPortions((limit) => rows.deleteHistory(olderThanMs, limit));
    const usage = await inPortions((limit) => rows.deleteUsage(olderThanMs, limit));
    const count = history + usage + (await inPortions((limit) => rows.deleteAudit(olderThanMs, limit)));
    this.#log.historyCleared(count, olderThanMs);
    return { count, dryRun };
  }

  /** Sessions that have ended, with everything that is kept of them. */
  async vacuumSessions({ olderThanMs, dryRun }: Retention): Promise<Removed> {
    if (dryRun) return { count: await this.#rows.countSessions(olderThanMs), dryRun };
    const count = await inPortions((limit) => this.#rows.deleteSessions(olderThanMs, limit));
    this.#log.sessionsVacuumed(count, olderThanMs);
    return { count, dryRun };
  }
}

async function inPortions(remove: (limit: number) => Promise<number>): Promise<number> {
  for (let total = 0; ; ) {
    const removed = await remove(portion);
    total += removed;
    if (removed < portion) return total;
  }
}
