import type { Transaction } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { terminalTexts } from './session-rows.ts';

/** What administrators are asked before tenants go. All inside the transaction of the change. */

/** One change of tenants at a time: who looks whether a superadmin is left must see what others just took away. */
export async function lockTenants(tx: Transaction): Promise<void> {
  await tx.execute(sql`lock table users in share row exclusive mode`);
}

/** A superadmin who can get in, with the rights of the role. */
export async function hasSuperadmin(tx: Transaction): Promise<boolean> {
  const [row] = await tx.execute<{ found: boolean }>(sql`
    select exists (
      select 1 from users u join domains d on d.name = u.domain_name join keypairs k on k.user_id = u.id
      where u.role = 'superadmin' and u.status = 'active' and d.is_active and k.is_active and k.is_admin
    ) as found`);
  return row?.found ?? false;
}

export type TenantOfSessions =
  | { readonly domain: string }
  | { readonly projectId: string }
  | { readonly userId: string }
  | { readonly accessKey: string };

export interface LiveSessions {
  readonly count: number;
  /** The oldest few. */
  readonly sessions: ReadonlyArray<{ readonly id: string; readonly name: string; readonly accessKey: string }>;
}

export async function liveSessionsOf(tx: Transaction, tenant: TenantOfSessions): Promise<LiveSessions> {
  const from = sql`from sessions where status not in (${terminalTexts}) and ${isOf(tenant)}`;
  const [counted] = await tx.execute<{ count: number }>(sql`select count(*)::int as count ${from}`);
  const sessions = await tx.execute<{ id: string; name: string; accessKey: string }>(
    sql`select id, name, access_key as "accessKey" ${from} order by created_at, id limit 10`,
  );
  return { count: counted?.count ?? 0, sessions: [...sessions] };
}

/** Removes the turns of its limits, and of those of its key pairs, together with a tenant. */
export async function forgetTurns(tx: Transaction, tenant: TenantOfSessions): Promise<void> {
  await tx.execute(sql`delete from quota_turns where scope in (${turnsOf(tenant)})`);
}

function turnsOf(tenant: TenantOfSessions): SQL {
  if ('domain' in tenant) return sql`${`domain:${tenant.domain}`}`;
  if ('projectId' in tenant) return sql`${`project:${tenant.projectId}`}`;
  if ('accessKey' in tenant) return sql`${`keypair:${tenant.accessKey}`}, ${`queue:${tenant.accessKey}`}`;
  return sql`
    select ${`user:${tenant.userId}`}::text
    union all select kind || ':' || k.access_key from keypairs k, unnest(array['keypair', 'queue']) kind
    where k.user_id = ${tenant.userId}::uuid`;
}

function isOf(tenant: TenantOfSessions): SQL {
  if ('domain' in tenant) return sql`domain_name = ${tenant.domain}`;
  if ('projectId' in tenant) return sql`project_id = ${tenant.projectId}::uuid`;
  if ('userId' in tenant) return sql`user_id = ${tenant.userId}::uuid`;
  return sql`access_key = ${tenant.accessKey}`;
}
