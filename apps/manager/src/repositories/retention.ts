import { terminalStatuses } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';

/** What is older than it needs to be. Every deletion is one short statement over at most `limit` rows. */
export class RetentionRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async countHistory(olderThanMs: number): Promise<number> {
    return await this.#count(sql`session_history h where ${oldHistory(olderThanMs)}`);
  }

  /** Returns how many were deleted; fewer than `limit` means that nothing is left. */
  async deleteHistory(olderThanMs: number, limit: number): Promise<number> {
    const { count } = await this.#db.execute(sql`
      delete from session_history where id in (
        select h.id from session_history h where ${oldHistory(olderThanMs)} limit ${limit})`);
    return count;
  }

  async countUsage(olderThanMs: number): Promise<number> {
    return await this.#count(sql`usage_records u where ${oldUsage(olderThanMs)}`);
  }

  async deleteUsage(olderThanMs: number, limit: number): Promise<number> {
    const { count } = await this.#db.execute(sql`
      delete from usage_records where id in (
        select u.id from usage_records u where ${oldUsage(olderThanMs)} limit ${limit})`);
    return count;
  }

  async countAudit(olderThanMs: number): Promise<number> {
    return await this.#count(sql`audit_log a where ${oldAudit(olderThanMs)}`);
  }

  async deleteAudit(olderThanMs: number, limit: number): Promise<number> {
    const { count } = await this.#db.execute(sql`
      delete from audit_log where id in (
        select a.id from audit_log a where ${oldAudit(olderThanMs)} limit ${limit})`);
    return count;
  }

  async countSessions(olderThanMs: number): Promise<number> {
    return await this.#count(sql`sessions s where ${oldSession(olderThanMs)}`);
  }

  /** With their kernels, logs, history and closed ledger entries; what they used stays recorded. */
  async deleteSessions(olderThanMs: number, limit: number): Promise<number> {
    const { count } = await this.#db.execute(sql`
      delete from sessions where id in (select s.id from sessions s where ${oldSession(olderThanMs)} limit ${limit})`);
    return count;
  }

  async #count(from: SQL): Promise<number> {
    const [row] = await this.#db.execute<{ count: number }>(sql`select count(*)::int as count from ${from}`);
    return row?.count ?? 0;
  }
}

const terminal = sql.raw(terminalStatuses.map((status) => `'${status}'`).join(', '));

function before(olderThanMs: number): SQL {
  return sql`now() - ${olderThanMs}::float8 * interval '1 millisecond'`;
}

function oldUsage(olderThanMs: number): SQL {
  return sql`u.ended_at < ${before(olderThanMs)}`;
}

function oldAudit(olderThanMs: number): SQL {
  return sql`a.at < ${before(olderThanMs)}`;
}

/** The ledger decides besides the state: what still holds resources is not over. */
function oldSession(olderThanMs: number): SQL {
  return sql`s.status in (${terminal}) and coalesce(s.terminated_at, s.status_changed_at) < ${before(olderThanMs)}
    and not exists (select 1 from kernels k join resource_allocations ra on ra.kernel_id = k.id
      where k.session_id = s.id and ra.free_at is null)`;
}

/** History of the living is kept: it tells why they are as they are. */
function oldHistory(olderThanMs: number): SQL {
  return sql`h.at < ${before(olderThanMs)}
    and exists (select 1 from sessions s where s.id = h.session_id and s.status in (${terminal}))`;
}
