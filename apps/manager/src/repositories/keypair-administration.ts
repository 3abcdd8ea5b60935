import type { KeypairView, Scope } from '@backend.ai/contract';
import type { UserRole } from '@backend.ai/core';
import type { Database, Transaction } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { changedColumns, typed } from './changed-columns.ts';
import { forgetTurns } from './tenant-guards.ts';

/** A key pair as administrators see it: without its secret. */
export interface AdministeredKeypair extends KeypairView {
  /** Of its user. */
  readonly role: UserRole;
}

export interface KeypairValues {
  readonly isActive?: boolean | undefined;
  readonly isAdmin?: boolean | undefined;
  readonly rateLimit?: number | undefined;
  readonly resourcePolicy?: string | undefined;
}

const columns = sql.raw(`k.access_key as "accessKey", k.user_id as "userId", u.email, u.role, u.domain_name as domain,
  k.is_active as "isActive", k.is_admin as "isAdmin", k.is_main as "isMain", k.rate_limit as "rateLimit",
  k.resource_policy as "resourcePolicy", k.last_used_at as "lastUsedAt", k.created_at as "createdAt",
  k.modified_at as "modifiedAt"`);

export class KeypairAdministration {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(filter: {
    scope: Scope;
    email: string | null;
    domain: string | null;
    isActive: boolean | null;
    limit: number;
    offset: number;
  }): Promise<{ records: AdministeredKeypair[]; total: number }> {
    const { email, domain, isActive } = filter;
    const from = sql`
      from keypairs k join users u on u.id = k.user_id where ${keypairWithin(filter.scope)}
        and (${email}::text is null or u.email = ${email}::text or u.id::text = ${email}::text)
        and (${domain}::text is null or u.domain_name = ${domain}::text)
        and (${isActive}::boolean is null or k.is_active = ${isActive}::boolean)`;
    const records = await this.#db.execute<AdministeredKeypair & Record<string, unknown>>(sql`
      select ${columns} ${from} order by u.email, k.created_at, k.access_key
      limit ${filter.limit}::int offset ${filter.offset}::int`);
    const [count] = await this.#db.execute<{ total: number }>(sql`select count(*)::int as total ${from}`);
    return { records: [...records], total: count?.total ?? 0 };
  }

  async find(
    accessKey: string,
    scope: Scope,
    on: Database | Transaction = this.#db,
  ): Promise<AdministeredKeypair | undefined> {
    const [row] = await on.execute<AdministeredKeypair & Record<string, unknown>>(sql`
      select ${columns} from keypairs k join users u on u.id = k.user_id
      where k.access_key = ${accessKey} and ${keypairWithin(scope)}`);
    return row;
  }

  /** The first one of a user is the main one. */
  async insert(
    tx: Transaction,
    keypair: { accessKey: string; userId: string; secretKeyEncrypted: string },
    values: KeypairValues,
  ): Promise<void> {
    await tx.execute(sql`
      insert into keypairs (access_key, user_id, secret_key_encrypted, is_active, is_admin, rate_limit,
        resource_policy, is_main)
      select ${keypair.accessKey}, ${keypair.userId}::uuid, ${keypair.secretKeyEncrypted},
        ${values.isActive ?? true}::boolean, ${values.isAdmin ?? false}::boolean, ${values.rateLimit ?? 30_000}::int,
        ${values.resourcePolicy ?? 'default'},
        not exists (select 1 from keypairs where user_id = ${keypair.userId}::uuid and is_main)`);
  }

  async update(tx: Transaction, accessKey: string, values: KeypairValues): Promise<void> {
    await tx.execute(sql`
      update keypairs set ${changedColumns({
        is_active: typed(values.isActive, 'boolean'),
        is_admin: typed(values.isAdmin, 'boolean'),
        rate_limit: typed(values.rateLimit, 'int'),
        resource_policy: typed(values.resourcePolicy, 'text'),
      })} where access_key = ${accessKey}`);
  }

  async makeMain(tx: Transaction, accessKey: string, userId: string): Promise<void> {
    await tx.execute(sql`update keypairs set is_main = false where user_id = ${userId}::uuid and is_main`);
    await tx.execute(sql`update keypairs set is_main = true where access_key = ${accessKey}`);
  }

  /** Deletes it; if it was the main one, the oldest active one of those that are left is. */
  async remove(tx: Transaction, accessKey: string, userId: string): Promise<void> {
    await forgetTurns(tx, { accessKey });
    await tx.execute(sql`delete from keypairs where access_key = ${accessKey}`);
    await tx.execute(sql`
      update keypairs set is_main = true where access_key = (
        select access_key from keypairs where user_id = ${userId}::uuid
        order by is_main desc, is_active desc, created_at, access_key limit 1)`);
  }

  /** Of all key pairs of a user. */
  async updateAll(tx: Transaction, userId: string, values: KeypairValues): Promise<void> {
    await tx.execute(sql`
      update keypairs set ${changedColumns({
        is_active: typed(values.isActive, 'boolean'),
        is_admin: typed(values.isAdmin, 'boolean'),
      })} where user_id = ${userId}::uuid`);
  }
}

function keypairWithin(scope: Scope): SQL {
  if (scope.extent === 'all') return sql`true`;
  const isOwn = sql`k.user_id = ${scope.userId}::uuid`;
  return scope.extent === 'domain' ? sql`(u.domain_name = ${scope.domain} or ${isOwn})` : isOwn;
}
