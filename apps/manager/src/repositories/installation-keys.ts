import type { Database, ToldKeys, Transaction } from '@backend.ai/database';
import type { PeerIdentity } from '@backend.ai/rpc';
import { sql } from 'drizzle-orm';

/** A key that encrypts secrets, or did. */
export interface KeyGeneration {
  readonly id: string;
  /** Null: since the beginning. */
  readonly since: string | null;
}

/** A manager that is not revoked, whether it runs or not. */
export interface ManagerKeys {
  readonly id: string;
  /** Null: nothing yet. */
  readonly told: ToldKeys | null;
}

/** Which installation key encrypts, in every manager, and what managers told of those that they have. */
export class InstallationKeyRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** In their order: the last one encrypts. Empty while there are no secrets. */
  async generations(): Promise<KeyGeneration[]> {
    return [
      ...(await this.#db.execute<KeyGeneration & Record<string, unknown>>(sql`
        select id, since from (
          select generation, key_id as id, encrypts_since as since from installation_keys
          union all
          (select 1, split_part(secret_key_encrypted, '.', 2), null from keypairs
            where not exists (select 1 from installation_keys) limit 1)
        ) g order by generation`)),
    ];
  }

  /** The id of the one that encrypts. */
  async current(): Promise<string | undefined> {
    return (await this.generations()).at(-1)?.id;
  }

  /** Runs `work`, which uses no database, while nobody else changes a key file or the key that encrypts. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    return await this.#alone(work);
  }

  /**
   * From now on `id` encrypts, in place of `former`. Twice is once.
   * @param check That the key is where it has to be; uses no database
   */
  async promote(id: string, former: string, check: () => Promise<void>): Promise<void> {
    await this.#alone(async (tx) => {
      await check();
      await tx.execute(sql`
        insert into installation_keys (generation, key_id)
        select 1, ${former}::text where not exists (select 1 from installation_keys)`);
      await tx.execute(sql`
        insert into installation_keys (generation, key_id, encrypts_since)
        select max(generation) + 1, ${id}::text, now() from installation_keys on conflict (key_id) do nothing`);
    });
  }

  async managers(): Promise<ManagerKeys[]> {
    return [
      ...(await this.#db.execute<ManagerKeys & Record<string, unknown>>(sql`
        select id, installation_keys as told from peers where kind = 'manager' and revoked_at is null order by id`)),
    ];
  }

  /** Writes nothing when it is known already. */
  async tell({ id, publicKey }: Pick<PeerIdentity, 'id' | 'publicKey'>, told: ToldKeys): Promise<void> {
    const text = JSON.stringify(told);
    await this.#db.execute(sql`
      update peers set installation_keys = ${text}::jsonb
      where id = ${id} and kind = 'manager' and public_key = ${publicKey}
        and installation_keys is distinct from ${text}::jsonb`);
  }

  async #alone<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    return await this.#db.transaction(async (tx) => {
      await tx.execute(sql`lock table installation_keys in share row exclusive mode`);
      return await work(tx);
    });
  }
}
