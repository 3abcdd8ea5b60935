import type { UserId } from '@backend.ai/core';
import { index, jsonb, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';
import { users } from './identity.ts';

/** Descriptions that sessions are made of again and again. Domain and project are looked up when a session is made. */
export const sessionTemplates = pgTable(
  'session_templates',
  {
    id: uuid('id').primaryKey(),
    userId: uuid('user_id')
      .$type<UserId>()
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    domainName: text('domain_name').notNull(),
    projectName: text('project_name').notNull(),
    name: text('name').notNull(),
    /** In the form of the original. */
    template: jsonb('template').$type<Record<string, unknown>>().notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    modifiedAt: moment('modified_at').notNull().defaultNow(),
  },
  (table) => [index('session_templates_user_id_idx').on(table.userId)],
);
