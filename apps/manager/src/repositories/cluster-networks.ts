import { type Database, fencedBy } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import { terminalTexts } from './session-rows.ts';

/** A network that a session has, may have, or had in a swarm. */
export interface ClusterNetworkRecord {
  readonly sessionId: string;
  readonly swarmId: string;
}

/** What was ordered of swarms, and is not known to be gone. */
export class ClusterNetworkRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Before it is made. False: the session ends or has ended, or another manager leads. */
  async record({ sessionId, swarmId }: ClusterNetworkRecord, epoch: number): Promise<boolean> {
    const rows = await this.#db.execute(sql`
      insert into cluster_networks (session_id, swarm_id)
      select s.id, ${swarmId}::text from sessions s
      where s.id = ${sessionId}::uuid and s.status not in ('TERMINATING', ${terminalTexts}) and ${fencedBy(epoch)}
      on conflict (session_id, swarm_id) do update set swarm_id = excluded.swarm_id
      returning session_id`);
    return rows.length > 0;
  }

  /** Those of sessions that have ended, or are not there any more. */
  async ofEnded(): Promise<ClusterNetworkRecord[]> {
    const rows = await this.#db.execute<ClusterNetworkRecord & Record<string, unknown>>(sql`
      select n.session_id as "sessionId", n.swarm_id as "swarmId" from cluster_networks n
      where not exists (select from sessions s where s.id = n.session_id and s.status not in (${terminalTexts}))
      order by n.session_id, n.swarm_id`);
    return [...rows];
  }

  /** Once it is gone. */
  async forget({ sessionId, swarmId }: ClusterNetworkRecord): Promise<void> {
    await this.#db.execute(
      sql`delete from cluster_networks where session_id = ${sessionId}::uuid and swarm_id = ${swarmId}`,
    );
  }
}
