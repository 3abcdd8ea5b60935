import type { AccessKey, ProjectId, ResourceSlotTexts } from '@backend.ai/core';
import { sql } from 'drizzle-orm';
import { bigint, boolean, check, jsonb, pgTable, primaryKey, text, uniqueIndex, uuid } from 'drizzle-orm/pg-core';
import { moment, oneOf } from './columns.ts';
import { domains, keypairs, projects } from './identity.ts';

/** In which order a group's queue is served, among sessions of one priority. */
export const schedulerNames = ['fifo', 'lifo', 'drf', 'fair-share'] as const;
export type SchedulerName = (typeof schedulerNames)[number];

/** Agents that are scheduled together. */
export const resourceGroups = pgTable(
  'resource_groups',
  {
    name: text('name').primaryKey(),
    description: text('description').notNull().default(''),
    isActive: boolean('is_active').notNull().default(true),
    /** Everybody may use it; otherwise those who are allowed: a domain, a project or a key pair. */
    isPublic: boolean('is_public').notNull().default(true),
    /** Preferred where a session names none. At most one is. */
    isDefault: boolean('is_default').notNull().default(false),
    scheduler: text('scheduler').$type<SchedulerName>().notNull().default('fifo'),
    /** Checked by the contract's schema; what is absent has its default there. */
    options: jsonb('options').$type<Record<string, unknown>>().notNull().default({}),
    /** The contract's `EgressPolicy`. */
    egress: jsonb('egress').$type<Record<string, unknown>>().notNull().default({ policy: 'open' }),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    check('resource_groups_scheduler_check', oneOf(table.scheduler, schedulerNames)),
    uniqueIndex('resource_groups_default_key').on(table.isDefault).where(sql`${table.isDefault}`),
  ],
);

const resourceGroup = () =>
  text('resource_group')
    .notNull()
    .references(() => resourceGroups.name, { onDelete: 'cascade' });

export const resourceGroupDomains = pgTable(
  'resource_group_domains',
  {
    resourceGroup: resourceGroup(),
    domainName: text('domain_name')
      .notNull()
      .references(() => domains.name, { onDelete: 'cascade' }),
  },
  (table) => [primaryKey({ name: 'resource_group_domains_pkey', columns: [table.resourceGroup, table.domainName] })],
);

export const resourceGroupProjects = pgTable(
  'resource_group_projects',
  {
    resourceGroup: resourceGroup(),
    projectId: uuid('project_id')
      .$type<ProjectId>()
      .notNull()
      .references(() => projects.id, { onDelete: 'cascade' }),
  },
  (table) => [primaryKey({ name: 'resource_group_projects_pkey', columns: [table.resourceGroup, table.projectId] })],
);

export const resourceGroupKeypairs = pgTable(
  'resource_group_keypairs',
  {
    resourceGroup: resourceGroup(),
    accessKey: text('access_key')
      .$type<AccessKey>()
      .notNull()
      .references(() => keypairs.accessKey, { onDelete: 'cascade' }),
  },
  (table) => [primaryKey({ name: 'resource_group_keypairs_pkey', columns: [table.resourceGroup, table.accessKey] })],
);

/** Amounts to choose from when a session is made, everywhere or in one group. */
export const resourcePresets = pgTable(
  'resource_presets',
  {
    id: uuid('id').primaryKey(),
    name: text('name').notNull(),
    /** Null: of all groups. */
    resourceGroup: text('resource_group').references(() => resourceGroups.name, { onDelete: 'cascade' }),
    resourceSlots: jsonb('resource_slots').$type<ResourceSlotTexts>().notNull(),
    /** Bytes; null: what the image has by itself. */
    sharedMemory: bigint('shared_memory', { mode: 'number' }),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex('resource_presets_name_key').on(table.name).where(sql`${table.resourceGroup} is null`),
    uniqueIndex('resource_presets_group_name_key')
      .on(table.resourceGroup, table.name)
      .where(sql`${table.resourceGroup} is not null`),
  ],
);

export type ResourceGroupRow = typeof resourceGroups.$inferSelect;
export type ResourcePresetRow = typeof resourcePresets.$inferSelect;
