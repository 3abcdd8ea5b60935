import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import { terminalTexts } from './session-rows.ts';

export interface ClusterKeyRecord {
  readonly publicKey: string;
  readonly privateKeyEncrypted: string;
}

/** Key pairs that the kernels of a session share. */
export class ClusterKeyRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async find(sessionId: string): Promise<ClusterKeyRecord | undefined> {
    const [row] = await this.#db.execute<ClusterKeyRecord & Record<string, unknown>>(sql`
      select public_key as "publicKey", private_key_encrypted as "privateKeyEncrypted"
      from session_key_pairs where session_id = ${sessionId}::uuid`);
    return row;
  }

  /** Unless the session has one. */
  async insert(sessionId: string, { publicKey, privateKeyEncrypted }: ClusterKeyRecord): Promise<void> {
    await this.#db.execute(sql`
      insert into session_key_pairs (session_id, public_key, private_key_encrypted)
      values (${sessionId}::uuid, ${publicKey}, ${privateKeyEncrypted}) on conflict do nothing`);
  }

  /** Those of sessions that have ended. */
  async removeOfEnded(): Promise<void> {
    await this.#db.execute(sql`
      delete from session_key_pairs k using sessions s where s.id = k.session_id and s.status in (${terminalTexts})`);
  }
}
