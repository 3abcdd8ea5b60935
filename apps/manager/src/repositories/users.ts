import type { Scope, UserView } from '@backend.ai/contract';
import { isUuid, type UserRole, type UserStatus } from '@backend.ai/core';
import type { Database, Transaction } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { changedColumns, typed } from './changed-columns.ts';
import { forgetTurns } from './tenant-guards.ts';

/** As the API shows it, but for moments: they are PostgreSQL's texts. */
export type UserRecord = UserView;

export interface UserValues {
  readonly username?: string | undefined;
  readonly fullName?: string | undefined;
  readonly role?: UserRole | undefined;
  readonly status?: UserStatus | undefined;
  readonly statusReason?: string | undefined;
  readonly domain?: string | undefined;
  readonly description?: string | undefined;
  readonly needPasswordChange?: boolean | undefined;
  readonly passwordHash?: string | undefined;
  readonly resourcePolicy?: string | undefined;
}

export interface UserFilter {
  readonly scope: Scope;
  readonly domain: string | null;
  readonly project: string | null;
  readonly status: UserStatus | null;
  readonly role: UserRole | null;
  readonly limit: number;
  readonly offset: number;
}

const columns = sql.raw(`u.id, u.email, u.username, u.full_name as "fullName", u.role, u.status,
  u.status_reason as "statusReason", u.domain_name as domain, u.description,
  u.password_hash is not null as "hasPassword", u.need_password_change as "needPasswordChange",
  u.password_changed_at as "passwordChangedAt", u.resource_policy as "resourcePolicy", u.created_at as "createdAt",
  u.modified_at as "modifiedAt",
  (select k.access_key from keypairs k where k.user_id = u.id and k.is_main) as "mainAccessKey",
  coalesce((select jsonb_agg(jsonb_build_object('id', p.id, 'name', p.name) order by p.name)
    from project_members m join projects p on p.id = m.project_id where m.user_id = u.id), '[]') as projects`);

export class UserRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Without deleted ones, unless their status is asked for. */
  async list(filter: UserFilter): Promise<{ records: UserRecord[]; total: number }> {
    const { scope, domain, project, status, role } = filter;
    const from = sql`
      from users u where ${userWithin(scope)}
        and (${domain}::text is null or u.domain_name = ${domain}::text)
        and (${role}::text is null or u.role = ${role}::text)
        and ${status === null ? sql`u.status <> 'deleted'` : sql`u.status = ${status}`}
        and (${project}::text is null or exists (
          select 1 from project_members m join projects p on p.id = m.project_id
          where m.user_id = u.id and (p.name = ${project}::text or p.id::text = ${project}::text)))`;
    const records = await this.#db.execute<UserRecord & Record<string, unknown>>(sql`
      select ${columns} ${from} order by u.email limit ${filter.limit}::int offset ${filter.offset}::int`);
    const [count] = await this.#db.execute<{ total: number }>(sql`select count(*)::int as total ${from}`);
    return { records: [...records], total: count?.total ?? 0 };
  }

  /** By id or e-mail address, among those of the scope. */
  async find(ref: string, scope: Scope, on: Database | Transaction = this.#db): Promise<UserRecord | undefined> {
    const [row] = await on.execute<UserRecord & Record<string, unknown>>(
      sql`select ${columns} from users u where ${isUser(ref)} and ${userWithin(scope)}`,
    );
    return row;
  }

  /** Ids of users of a domain by what they are called: ids or e-mail addresses. Who is not there is absent. */
  async idsOf(refs: readonly string[], domain: string, tx: Transaction): Promise<Map<string, string>> {
    const rows = await tx.execute<{ ref: string; id: string }>(sql`
      select r.ref, u.id from jsonb_array_elements_text(${JSON.stringify(refs)}::jsonb) r (ref)
      join users u on u.email = lower(r.ref) or u.id = ${uuidOrNull(sql`r.ref`)}
      where u.domain_name = ${domain}`);
    return new Map(rows.map(({ ref, id }) => [ref, id]));
  }

  async passwordHash(userId: string): Promise<string | null> {
    const [row] = await this.#db.execute<{ hash: string | null }>(
      sql`select password_hash as hash from users where id = ${userId}::uuid`,
    );
    return row?.hash ?? null;
  }

  /** False: the address is taken. */
  async insert(
    tx: Transaction,
    user: { id: string; email: string; username: string; domain: string },
    values: UserValues,
  ): Promise<boolean> {
    const { count } = await tx.execute(sql`
      insert into users (id, email, username, full_name, role, status, status_reason, domain_name, description,
        need_password_change, password_hash, password_changed_at, resource_policy)
      values (${user.id}::uuid, ${user.email}, ${user.username}, ${values.fullName ?? ''}, ${values.role ?? 'user'},
        ${values.status ?? 'active'}, 'user:create', ${user.domain}, ${values.description ?? ''},
        ${values.needPasswordChange ?? false}::boolean, ${values.passwordHash ?? null}::text,
        ${values.passwordHash === undefined ? sql`null` : sql`now()`}, ${values.resourcePolicy ?? 'default'})
      on conflict (email) do nothing`);
    return count > 0;
  }

  async update(tx: Transaction, id: string, values: UserValues): Promise<void> {
    await tx.execute(sql`
      update users set ${changedColumns({
        username: typed(values.username, 'text'),
        full_name: typed(values.fullName, 'text'),
        role: typed(values.role, 'text'),
        status: typed(values.status, 'text'),
        status_reason: typed(values.statusReason, 'text'),
        domain_name: typed(values.domain, 'text'),
        description: typed(values.description, 'text'),
        need_password_change: typed(values.needPasswordChange, 'boolean'),
        password_hash: typed(values.passwordHash, 'text'),
        password_changed_at: values.passwordHash === undefined ? undefined : sql`now()`,
        resource_policy: typed(values.resourcePolicy, 'text'),
      })} where id = ${id}::uuid`);
  }

  async remove(tx: Transaction, id: string): Promise<void> {
    await forgetTurns(tx, { userId: id });
    await tx.execute(sql`delete from users where id = ${id}::uuid`);
  }

  async leaveProjects(tx: Transaction, id: string): Promise<void> {
    await tx.execute(sql`delete from project_members where user_id = ${id}::uuid`);
  }
}

function userWithin(scope: Scope): SQL {
  if (scope.extent === 'all') return sql`true`;
  const isSelf = sql`u.id = ${scope.userId}::uuid`;
  return scope.extent === 'domain' ? sql`(u.domain_name = ${scope.domain} or ${isSelf})` : isSelf;
}

function uuidOrNull(text: SQL): SQL {
  return sql`case when ${text} ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then ${text}::uuid end`;
}

function isUser(ref: string): SQL {
  return isUuid(ref) ? sql`u.id = ${ref}::uuid` : sql`u.email = ${ref.toLowerCase()}`;
}
