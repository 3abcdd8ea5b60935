import type { SessionType } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';

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

export class IdleRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  running(): Promise<RunningSessionRecord[]> {
    return this.#select(sql`true`);
  }

  async findRunning(sessionId: string): Promise<RunningSessionRecord | undefined> {
    return (await this.#select(sql`s.id = ${sessionId}::uuid`))[0];
  }

  async #select(condition: SQL): Promise<RunningSessionRecord[]> {
    const rows = await this.#db.execute<RunningSessionRecord & Record<string, unknown>>(sql`
      select s.id, s.name, s.type, s.request_id as "requestId",
        (extract(epoch from s.created_at) * 1000)::float8 as "createdAtMs",
        (extract(epoch from coalesce(s.started_at, s.status_changed_at)) * 1000)::float8 as "startedAtMs",
        s.paused_at is not null as paused, (extract(epoch from s.resumed_at) * 1000)::float8 as "resumedAtMs",
        (extract(epoch from u.created_at) * 1000)::float8 as "userCreatedAtMs",
        p.idle_timeout as "idleTimeoutS", coalesce(p.max_session_lifetime, 0) as "maxLifetimeS",
        coalesce((select jsonb_agg(jsonb_build_object('id', k.id, 'slots', k.requested_slots))
          from kernels k where k.session_id = s.id and k.status = 'RUNNING'), '[]') as "kernels"
      from sessions s
      left join users u on u.id = s.user_id
      left join keypairs kp on kp.access_key = s.access_key
      left join keypair_resource_policies p on p.name = kp.resource_policy
      where s.status in ('RUNNING', 'RUNNING_DEGRADED') and ${condition}
      order by s.created_at, s.id`);
    return [...rows];
  }
}
