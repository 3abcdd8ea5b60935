import type { SessionType } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

/** A running session with what idle checkers need to know. Moments are milliseconds since the epoch. */
export interface RunningSessionRecord {
  readonly id: string;
  readonly name: string;
  readonly type: SessionType;
  readonly requestId: string;
  readonly createdAtMs: number;
  readonly startedAtMs: number;
  readonly paused: boolean;
  readonly resumedAtMs: number | null;
  readonly userCreatedAtMs: number | null;
  /** Of the policy of its key pair, in seconds; null: the policy does not say. */
  readonly idleTimeoutS: number | null;
  readonly maxLifetimeS: number;
  /** Those that run: of those that have ended nothing is measured any more. */
  readonly kernels: ReadonlyArray<{ readonly id: string; readonly slots: Readonly<Record<string, string>> }>;
}

/** As `RunningSessionRecord`s. */
const runningSessions = sql.raw(`
  select r.id, r.name, r.type, r.request_id as "requestId",
    (extract(epoch from r.created_at) * 1000)::float8 as "createdAtMs",
    (extract(epoch from coalesce(r.started_at, r.status_changed_at)) * 1000)::float8 as "startedAtMs",
    r.paused_at is not null as paused, (extract(epoch from r.resumed_at) * 1000)::float8 as "resumedAtMs",
    (extract(epoch from u.created_at) * 1000)::float8 as "userCreatedAtMs",
    p.idle_timeout as "idleTimeoutS", coalesce(p.max_session_lifetime, 0) as "maxLifetimeS",
    coalesce((select jsonb_agg(jsonb_build_object('id', k.id, 'slots', k.requested_slots))
      from kernels k where k.session_id = r.id and k.status = 'RUNNING'), '[]') as "kernels"
  from sessions r
  left join users u on u.id = r.user_id
  left join keypairs kp on kp.access_key = r.access_key
  left join keypair_resource_policies p on p.name = kp.resource_policy
  where r.status in ('RUNNING', 'RUNNING_DEGRADED')`);

/** The `RunningSessionRecord` of a session in JSON, null of one that does not run; expects `s` to be sessions. */
export const runningSession = sql`(select to_jsonb(x) from (${runningSessions} and r.id = s.id) x)`;

export class IdleRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async running(): Promise<RunningSessionRecord[]> {
    const rows = await this.#db.execute<RunningSessionRecord & Record<string, unknown>>(
      sql`${runningSessions} order by r.created_at, r.id`,
    );
    return [...rows];
  }
}
