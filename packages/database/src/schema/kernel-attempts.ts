import type { AgentId, KernelId, SessionId } from '@backend.ai/core';
import { integer, jsonb, pgTable, text, unique, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';
import { type ClusterRole, sessions } from './sessions.ts';

/** What a kernel wrote and used in an attempt that was followed by another one. */
export const kernelAttempts = pgTable(
  'kernel_attempts',
  {
    /** That of the attempt. */
    kernelId: uuid('kernel_id').$type<KernelId>().primaryKey(),
    sessionId: uuid('session_id')
      .$type<SessionId>()
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    clusterRole: text('cluster_role').$type<ClusterRole>().notNull(),
    clusterIndex: integer('cluster_index').notNull(),
    /** Of a kernel in this place of the session, from 1. */
    attempt: integer('attempt').notNull(),
    agentId: text('agent_id').$type<AgentId>().notNull(),
    reason: text('reason').notNull(),
    exitCode: integer('exit_code'),
    /** The end of what it wrote. Of the last few attempts only. */
    log: text('log'),
    statistics: jsonb('statistics').$type<Record<string, unknown>>(),
    startedAt: moment('started_at'),
    endedAt: moment('ended_at').notNull(),
  },
  (table) => [
    unique('kernel_attempts_attempt_key').on(table.sessionId, table.clusterRole, table.clusterIndex, table.attempt),
  ],
);
