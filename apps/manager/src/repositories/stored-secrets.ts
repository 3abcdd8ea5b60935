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

/** How many secrets of a kind are encrypted by a key. */
export interface SecretCount {
  readonly kind: SecretKind;
  readonly keyId: string;
  readonly count: number;
}

const places: Readonly<Record<SecretKind, { readonly table: SQL; readonly id: SQL; readonly column: SQL }>> = {
  keypair: { table: sql`keypairs`, id: sql`access_key`, column: sql`secret_key_encrypted` },
  registry: { table: sql`container_registries`, id: sql`id`, column: sql`password_encrypted` },
  cluster: { table: sql`session_key_pairs`, id: sql`session_id`, column: sql`private_key_encrypted` },
};

/** All of them with the id of their key. */
const stored: SQL = sql.join(
  secretKinds.map((kind) => {
    const { table, id, column } = places[kind];
    return sql`select ${kind}::text as kind, ${id}::text as id, ${column} as encrypted,
      split_part(${column}, '.', 2) as key_id from ${table} where ${column} is not null`;
  }),
  sql` union all `,
);

/** Every stored secret, for another installation key. */
export class StoredSecretRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async countByKey(): Promise<SecretCount[]> {
    return [
      ...(await this.#db.execute<SecretCount & Record<string, unknown>>(sql`
        select kind, key_id as "keyId", count(*)::int as count from (${stored}) s group by 1, 2 order by 1, 2`)),
    ];
  }

  /** Some of those that are encrypted by other keys. */
  async listUnderOthers(keyId: string, limit: number): Promise<StoredSecret[]> {
    return [
      ...(await this.#db.execute<StoredSecret & Record<string, unknown>>(sql`
        select kind, id, encrypted from (${stored}) s where key_id <> ${keyId} order by kind, id limit ${limit}`)),
    ];
  }

  /** Answers how many: what somebody else replaced or removed meanwhile stays as it is. */
  async replace(secrets: ReadonlyArray<StoredSecret & { readonly by: string }>): Promise<number> {
    let replaced = 0;
    for (const kind of secretKinds) {
      const those = secrets.filter((secret) => secret.kind === kind);
      if (those.length === 0) continue;
      const { table, id, column } = places[kind];
      const { count } = await this.#db.execute(sql`
        update ${table} t set ${column} = s.by
        from jsonb_to_recordset(${JSON.stringify(those)}::jsonb) as s (id text, encrypted text, by text)
        where t.${id}::text = s.id and t.${column} = s.encrypted`);
      replaced += count;
    }
    return replaced;
  }
}
