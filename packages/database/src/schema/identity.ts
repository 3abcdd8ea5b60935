import {
  type AccessKey,
  type ProjectId,
  type ResourceSlotTexts,
  type UserId,
  type UserRole,
  type UserStatus,
  userRoles,
  userStatuses,
} from '@backend.ai/core';
import { sql } from 'drizzle-orm';
import {
  boolean,
  check,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  unique,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { moment, oneOf } from './columns.ts';
import { keypairResourcePolicies, projectResourcePolicies, userResourcePolicies } from './resource-policies.ts';

export const domains = pgTable('domains', {
  name: text('name').primaryKey(),
  isActive: boolean('is_active').notNull().default(true),
  /** Of all sessions together; what is not named is unlimited. */
  totalResourceSlots: jsonb('total_resource_slots').$type<ResourceSlotTexts>().notNull().default({}),
  description: text('description').notNull().default(''),
  /** What another system calls it; nothing here reads it. */
  integrationId: text('integration_id'),
  createdAt: moment('created_at').notNull().defaultNow(),
  modifiedAt: moment('modified_at').notNull().defaultNow(),
});

export const projects = pgTable(
  'projects',
  {
    id: uuid('id').$type<ProjectId>().primaryKey(),
    domainName: text('domain_name')
      .notNull()
      .references(() => domains.name),
    name: text('name').notNull(),
    isActive: boolean('is_active').notNull().default(true),
    /** Of all sessions together; what is not named is unlimited. */
    totalResourceSlots: jsonb('total_resource_slots').$type<ResourceSlotTexts>().notNull().default({}),
    resourcePolicy: text('resource_policy')
      .notNull()
      .default('default')
      .references(() => projectResourcePolicies.name),
    description: text('description').notNull().default(''),
    /** What another system calls it; nothing here reads it. */
    integrationId: text('integration_id'),
    createdAt: moment('created_at').notNull().defaultNow(),
    modifiedAt: moment('modified_at').notNull().defaultNow(),
  },
  (table) => [unique('projects_domain_name_name_key').on(table.domainName, table.name)],
);

export const users = pgTable(
  'users',
  {
    id: uuid('id').$type<UserId>().primaryKey(),
    email: text('email').notNull().unique('users_email_key'),
    username: text('username').notNull(),
    fullName: text('full_name').notNull().default(''),
    /** Null: this user cannot log in with a password. */
    passwordHash: text('password_hash'),
    passwordChangedAt: moment('password_changed_at'),
    needPasswordChange: boolean('need_password_change').notNull().default(false),
    description: text('description').notNull().default(''),
    role: text('role').$type<UserRole>().notNull().default('user'),
    status: text('status').$type<UserStatus>().notNull().default('active'),
    /** Who or what put it there, in the words of the audit log's actions. */
    statusReason: text('status_reason').notNull().default(''),
    domainName: text('domain_name')
      .notNull()
      .references(() => domains.name),
    resourcePolicy: text('resource_policy')
      .notNull()
      .default('default')
      .references(() => userResourcePolicies.name),
    createdAt: moment('created_at').notNull().defaultNow(),
    modifiedAt: moment('modified_at').notNull().defaultNow(),
  },
  (table) => [
    check('users_role_check', oneOf(table.role, userRoles)),
    index('users_domain_name_idx').on(table.domainName),
    check('users_status_check', oneOf(table.status, userStatuses)),
  ],
);

export const projectMembers = pgTable(
  'project_members',
  {
    projectId: uuid('project_id')
      .$type<ProjectId>()
      .notNull()
      .references(() => projects.id, { onDelete: 'cascade' }),
    userId: uuid('user_id')
      .$type<UserId>()
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
  },
  (table) => [
    primaryKey({ name: 'project_members_pkey', columns: [table.projectId, table.userId] }),
    index('project_members_user_id_idx').on(table.userId),
  ],
);

export const keypairs = pgTable(
  'keypairs',
  {
    accessKey: text('access_key').$type<AccessKey>().primaryKey(),
    userId: uuid('user_id')
      .$type<UserId>()
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    /** Encrypted under the installation key: request signatures need the plain secret, so a hash would not do. */
    secretKeyEncrypted: text('secret_key_encrypted').notNull(),
    isActive: boolean('is_active').notNull().default(true),
    /** Whether it has the rights of its user's role; if not, those of an ordinary user. */
    isAdmin: boolean('is_admin').notNull().default(false),
    /** The one that logging in with a password gives. */
    isMain: boolean('is_main').notNull().default(false),
    /** Requests per 15 minutes. */
    rateLimit: integer('rate_limit').notNull().default(30_000),
    resourcePolicy: text('resource_policy')
      .notNull()
      .default('default')
      .references(() => keypairResourcePolicies.name),
    /** To the minute. */
    lastUsedAt: moment('last_used_at'),
    createdAt: moment('created_at').notNull().defaultNow(),
    modifiedAt: moment('modified_at').notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex('keypairs_main_key').on(table.userId).where(sql`${table.isMain}`),
    index('keypairs_user_id_idx').on(table.userId),
  ],
);

export type DomainRow = typeof domains.$inferSelect;
export type ProjectRow = typeof projects.$inferSelect;
export type UserRow = typeof users.$inferSelect;
export type KeypairRow = typeof keypairs.$inferSelect;
