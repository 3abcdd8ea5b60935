import type { Scope } from '@backend.ai/contract';
import { type AuditOutcome, type Database, repeatedTransaction, type Transaction } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { storableJson, storableText } from './json-text.ts';

/** Of operators, who are no users. */
export const operatorId = '00000000-0000-0000-0000-000000000000';
export const operatorName = 'operator';

export interface AuditEntry {
  readonly id: string;
  readonly requestId: string;
  readonly userId: string;
  readonly accessKey: string;
  readonly actingFor: string | null;
  readonly action: string;
  readonly targetKind: string;
  readonly targetId: string;
  readonly domainName: string | null;
  readonly outcome: AuditOutcome;
  readonly errorCode: string | null;
  readonly changes: Readonly<Record<string, unknown>>;
}

export interface AuditRecord extends AuditEntry {
  readonly at: string;
  /** `operator` for operators; null: that user has been purged. */
  readonly email: string | null;
}

export interface AuditFilter {
  readonly scope: Scope;
  readonly email: string | null;
  readonly action: string | null;
  readonly targetKind: string | null;
  readonly targetId: string | null;
  readonly requestId: string | null;
  readonly limit: number;
  readonly offset: number;
}

function auditRow(entry: AuditEntry, changed: SQL): SQL {
  return sql`
      insert into audit_log (id, request_id, user_id, access_key, acting_for, action, target_kind, target_id,
        domain_name, outcome, error_code, changes)
      select ${entry.id}::uuid, ${entry.requestId}::text, ${entry.userId}::uuid, ${entry.accessKey}::text,
        ${entry.actingFor}::text, ${entry.action}::text, ${entry.targetKind}::text, ${storableText(entry.targetId)}::text,
        ${entry.domainName}::text, ${entry.outcome}::text, ${entry.errorCode}::text,
        ${storableJson(entry.changes)}::jsonb
      where ${changed}`;
}

/** The row as a further part of a statement: it is written if the part `changes` has changed anything. */
export function audited(entry: AuditEntry | undefined, changes: SQL): SQL {
  return entry ? sql`, audited as (${auditRow(entry, sql`exists (select 1 from ${changes})`)})` : sql``;
}

export class AuditRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    return repeatedTransaction(this.#db, work);
  }

  async write(entry: AuditEntry, on: Database | Transaction = this.#db): Promise<void> {
    await on.execute(auditRow(entry, sql`true`));
  }

  /** Newest first. Of a domain: what concerns it, and what its administrator did. */
  async list(filter: AuditFilter): Promise<{ records: AuditRecord[]; total: number }> {
    const { scope, email, action, targetKind, targetId, requestId } = filter;
    const isOwn = sql`a.user_id = ${scope.userId}::uuid`;
    const isVisible =
      scope.extent === 'all'
        ? sql`true`
        : scope.extent === 'domain'
          ? sql`(a.domain_name = ${scope.domain} or ${isOwn})`
          : isOwn;
    const calledBy = sql`case when a.user_id = ${operatorId}::uuid then ${operatorName}::text else u.email end`;
    const from = sql`
      from audit_log a left join users u on u.id = a.user_id
      where ${isVisible} and (${email}::text is null or ${calledBy} = ${email}::text)
        and (${action}::text is null or a.action = ${action}::text)
        and (${targetKind}::text is null or a.target_kind = ${targetKind}::text)
        and (${targetId}::text is null or a.target_id = ${targetId}::text)
        and (${requestId}::text is null or a.request_id = ${requestId}::text)`;
    const records = await this.#db.execute<AuditRecord & Record<string, unknown>>(sql`
      select a.id, a.at, a.request_id as "requestId", a.user_id as "userId", ${calledBy} as email, a.access_key as "accessKey",
        a.acting_for as "actingFor", a.action, a.target_kind as "targetKind", a.target_id as "targetId",
        a.domain_name as "domainName", a.outcome, a.error_code as "errorCode", a.changes
      ${from} order by a.at desc, a.id desc limit ${filter.limit}::int offset ${filter.offset}::int`);
    const [count] = await this.#db.execute<{ total: number }>(sql`select count(*)::int as total ${from}`);
    return { records: [...records], total: count?.total ?? 0 };
  }
}
