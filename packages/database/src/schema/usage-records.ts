import type { AccessKey, AgentId, KernelId, ProjectId, ResourceSlotTexts, SessionId, UserId } from '@backend.ai/core';
import { sql } from 'drizzle-orm';
import { check, index, jsonb, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/** What a kernel used of all that it held, as far as it was measured. */
export interface MeasuredUse {
  /** From its start to its end: `cpuSeconds`, `readBytes`, `writtenBytes`, and how long devices were busy (`cudaSeconds`). */
  readonly counted: Readonly<Record<string, number>>;
  readonly memoryPeakBytes: number | null;
}

/**
 * What kernels held and for how long: a row for each time that one gives back what it held, written by the statement that
 * releases it. Rows outlive the sessions, people and agents that they are about, so nothing here is a foreign key.
 */
export const usageRecords = pgTable(
  'usage_records',
  {
    id: uuid('id').primaryKey(),
    sessionId: uuid('session_id').$type<SessionId>().notNull(),
    sessionName: text('session_name').notNull(),
    kernelId: uuid('kernel_id').$type<KernelId>().notNull(),
    domainName: text('domain_name').notNull(),
    projectId: uuid('project_id').$type<ProjectId>().notNull(),
    userId: uuid('user_id').$type<UserId>().notNull(),
    accessKey: text('access_key').$type<AccessKey>().notNull(),
    resourceGroup: text('resource_group').notNull(),
    agentId: text('agent_id').$type<AgentId>().notNull(),
    slots: jsonb('slots').$type<ResourceSlotTexts>().notNull(),
    beganAt: moment('began_at').notNull(),
    endedAt: moment('ended_at').notNull(),
    measured: jsonb('measured').$type<MeasuredUse>(),
  },
  (table) => [
    check('usage_records_span_check', sql`${table.endedAt} >= ${table.beganAt}`),
    index('usage_records_ended_at_idx').on(table.endedAt),
    index('usage_records_user_id_ended_at_idx').on(table.userId, table.endedAt),
  ],
);
