import { terminalStatuses } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';

interface Rule {
  readonly table: string;
  /** Whether a row `r` may go, for what ended or happened before a moment. */
  readonly isOver: (before: SQL) => SQL;
}

const terminal = sql.raw(terminalStatuses.map((status) => `'${status}'`).join(', '));

/** What is kept, each until it is older than it needs to be. */
const rules = {
  /** Changes of state; those of the living are kept: they tell why they are as they are. */
  history: {
    table: 'session_history',
    isOver: (before) => sql`r.at < ${before}
      and exists (select 1 from sessions s where s.id = r.session_id and s.status in (${terminal}))`,
  },
  usage: { table: 'usage_records', isOver: (before) => sql`r.ended_at < ${before}` },
  audit: { table: 'audit_log', isOver: (before) => sql`r.at < ${before}` },
  /**
   * With their kernels, logs, history and closed ledger entries; what they used stays recorded. The ledger decides besides
   * the state: what still holds resources is not over.
   */
  sessions: {
    table: 'sessions',
    isOver: (before) => sql`r.status in (${terminal}) and coalesce(r.terminated_at, r.status_changed_at) < ${before}
      and not exists (select 1 from kernels k join resource_allocations ra on ra.kernel_id = k.id
        where k.session_id = r.id and ra.free_at is null)`,
  },
} as const satisfies Record<string, Rule>;
export type Kept = keyof typeof rules;

/** What is older than it needs to be. */
export class RetentionRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async count(kept: Kept, olderThanMs: number): Promise<number> {
    const [row] = await this.#db.execute<{ count: number }>(
      sql`select count(*)::int as count from ${old(kept, olderThanMs)}`,
    );
    return row?.count ?? 0;
  }

  /** In one short statement. Returns how many were deleted; fewer than `limit` means that nothing is left. */
  async delete(kept: Kept, olderThanMs: number, limit: number): Promise<number> {
    const { count } = await this.#db.execute(sql`
      delete from ${sql.identifier(rules[kept].table)}
      where id in (select r.id from ${old(kept, olderThanMs)} limit ${limit})`);
    return count;
  }
}

function old(kept: Kept, olderThanMs: number): SQL {
  const { table, isOver } = rules[kept];
  const before = sql`now() - ${olderThanMs}::float8 * interval '1 millisecond'`;
  return sql`${sql.identifier(table)} r where ${isOver(before)}`;
}
