import { check, index, jsonb, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { moment, oneOf } from './columns.ts';

export const auditOutcomes = ['done', 'failed'] as const;
export type AuditOutcome = (typeof auditOutcomes)[number];

/** Who changed what, or tried to. Rows are only added, and outlive what they tell of: they refer to nothing. */
export const auditLog = pgTable(
  'audit_log',
  {
    id: uuid('id').primaryKey(),
    at: moment('at').notNull().defaultNow(),
    requestId: text('request_id').notNull(),
    /** Who called. */
    userId: uuid('user_id').notNull(),
    accessKey: text('access_key').notNull(),
    /** In whose name, when that is another one: an access key. */
    actingFor: text('acting_for'),
    /** An action of the contract's table. */
    action: text('action').notNull(),
    targetKind: text('target_kind').notNull(),
    targetId: text('target_id').notNull(),
    /** Of the target; null: it belongs to no domain. */
    domainName: text('domain_name'),
    outcome: text('outcome').$type<AuditOutcome>().notNull(),
    errorCode: text('error_code'),
    /** What was asked for, without secrets. */
    changes: jsonb('changes').$type<Record<string, unknown>>().notNull().default({}),
  },
  (table) => [
    check('audit_log_outcome_check', oneOf(table.outcome, auditOutcomes)),
    index('audit_log_at_idx').on(table.at.desc(), table.id.desc()),
    index('audit_log_target_idx').on(table.targetKind, table.targetId, table.at.desc()),
    index('audit_log_user_id_idx').on(table.userId, table.at.desc()),
    index('audit_log_request_id_idx').on(table.requestId),
  ],
);

export type AuditRow = typeof auditLog.$inferSelect;
