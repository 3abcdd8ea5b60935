import {
  type AccessKey,
  type ProjectId,
  type ResourceSlotTexts,
  type UserId,
  type UserRole,
  type UserStatus,
  userRoles,
} from '@backend.ai/core';
import { boolean, check, integer, jsonb, pgTable, primaryKey, text, unique, uuid } from 'drizzle-orm/pg-core';
import { moment, oneOf } from './columns.ts';
import { keypairResourcePolicies, projectResourcePolicies, userResourcePolicies } from './resource-policies.ts';

export const domains = pgTable('domains', {
  name: text('name').primaryKey(),
  isActive: boolean('is_active').notNull().default(true),
  /** Of all sessions together; what is not named is unlimited. */
  totalResourceSlots: jsonb('total_resource_slots').$type<ResourceSlotTexts>().notNull().default({}),
  createdAt: moment('created_at').notNull().defaultNow(),
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
    createdAt: moment('created_at').notNull().defaultNow(),
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
    role: text('role').$type<UserRole>().notNull().default('user'),
    status: text('status').$type<UserStatus>().notNull().default('active'),
    domainName: text('domain_name')
      .notNull()
      .references(() => domains.name),
    resourcePolicy: text('resource_policy')
      .notNull()
      .default('default')
      .references(() => userResourcePolicies.name),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    check('users_role_check', oneOf(table.role, userRoles)),
    check('users_status_check', oneOf(table.status, ['active', 'inactive'])),
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
  (table) => [primaryKey({ name: 'project_members_pkey', columns: [table.projectId, table.userId] })],
);

export const keypairs = pgTable('keypairs', {
  accessKey: text('access_key').$type<AccessKey>().primaryKey(),
  userId: uuid('user_id')
    .$type<UserId>()
    .notNull()
    .references(() => users.id, { onDelete: 'cascade' }),
  /** Encrypted under the installation key: request signatures need the plain secret, so a hash would not do. */
  secretKeyEncrypted: text('secret_key_encrypted').notNull(),
  isActive: boolean('is_active').notNull().default(true),
  isAdmin: boolean('is_admin').notNull().default(false),
  /** Requests per 15 minutes. */
  rateLimit: integer('rate_limit').notNull().default(30_000),
  resourcePolicy: text('resource_policy')
    .notNull()
    .default('default')
    .references(() => keypairResourcePolicies.name),
  createdAt: moment('created_at').notNull().defaultNow(),
});

export type DomainRow = typeof domains.$inferSelect;
export type ProjectRow = typeof projects.$inferSelect;
export type UserRow = typeof users.$inferSelect;
export type KeypairRow = typeof keypairs.$inferSelect;
