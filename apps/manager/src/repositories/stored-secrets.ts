import type { Database } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';

/**
 * What the installation key encrypts: the secret of a key pair, the private key that the kernels of a session share, the
 * password for a registry.
 */
export const secretKinds = ['keypair', 'cluster', 'registry'] as const;
export type SecretKind = (typeof secretKinds)[number];

export interface StoredSecret {
  readonly kind: SecretKind;
  /** Access key, or id of the session or registry. */
  readonly id: string;
  readonly encrypted: string;
}

const places: Readonly<Record<SecretKind, { readonly table: SQL; readonly id: SQL; readonly column: SQL }>> = {
  keypair: { table: sql`keypairs`, id: sql`access_key`, column: sql`secret_key_encrypted` },
  registry: { table: sql`container_registries`, id: sql`id`, column: sql`password_encrypted` },
  cluster: { table: sql`session_key_pairs`, id: sql`session_id`, column: sql`private_key_encrypted` },
};

/** Every stored secret, for another installation key. */
export class StoredSecretRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(): Promise<StoredSecret[]> {
    const selects = secretKinds.map((kind) => {
      const { table, id, column } = places[kind];
      return sql`select ${kind}::text as kind, ${id}::text as id, ${column} as encrypted from ${table}
        where ${column} is not null`;
    });
    const all = sql.join(selects, sql` union all `);
    return [...(await this.#db.execute<StoredSecret & Record<string, unknown>>(sql`${all} order by kind, id`))];
  }

  /** False: somebody else replaced or removed it meanwhile. */
  async replace({ kind, id, encrypted }: StoredSecret, by: string): Promise<boolean> {
    const place = places[kind];
    const { count } = await this.#db.execute(sql`
      update ${place.table} set ${place.column} = ${by}
      where ${place.id}::text = ${id} and ${place.column} = ${encrypted}`);
    return count > 0;
  }
}
