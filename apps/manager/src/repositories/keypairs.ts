import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

export interface KeypairRecord {
  readonly accessKey: string;
  readonly secretKeyEncrypted: string;
  readonly isAdmin: boolean;
  readonly rateLimit: number;
  readonly userId: string;
  readonly email: string;
  readonly role: 'superadmin' | 'admin' | 'user';
  readonly domain: string;
}

export class KeypairRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Only if key pair, user and domain are all active. */
  async findActive(accessKey: string): Promise<KeypairRecord | undefined> {
    const [row] = await this.#db.execute<KeypairRecord & Record<string, unknown>>(sql`
      select k.access_key as "accessKey", k.secret_key_encrypted as "secretKeyEncrypted", k.is_admin as "isAdmin",
        k.rate_limit as "rateLimit", u.id as "userId", u.email, u.role, u.domain_name as domain
      from keypairs k join users u on u.id = k.user_id join domains d on d.name = u.domain_name
      where k.access_key = ${accessKey} and k.is_active and u.status = 'active' and d.is_active`);
    return row;
  }

  async markUsed(accessKey: string): Promise<void> {
    await this.#db.execute(sql`update keypairs set last_used_at = now() where access_key = ${accessKey}`);
  }

  async projectsOf(userId: string): Promise<string[]> {
    const rows = await this.#db.execute<{ name: string }>(sql`
      select p.name from project_members m join projects p on p.id = m.project_id
      where m.user_id = ${userId} and p.is_active order by p.name`);
    return rows.map((row) => row.name);
  }
}
