import type { AgentId, ErrorBody, KernelId, ResourceSlotTexts } from '@backend.ai/core';
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  unique,
  uuid,
} from 'drizzle-orm/pg-core';
import { agents } from './agents.ts';
import { moment, oneOf } from './columns.ts';
import { containerRegistries } from './images.ts';
import { resourceGroups } from './resource-groups.ts';

/** How many kernels of which image and size a resource group keeps started ahead. */
export const warmPools = pgTable(
  'warm_pools',
  {
    id: uuid('id').primaryKey(),
    name: text('name').notNull(),
    resourceGroup: text('resource_group')
      .notNull()
      .references(() => resourceGroups.name, { onDelete: 'cascade' }),
    /** Canonical name. */
    image: text('image').notNull(),
    architecture: text('architecture').notNull(),
    /** What one of its slots holds. */
    slots: jsonb('slots').$type<ResourceSlotTexts>().notNull(),
    /** Of /dev/shm, in bytes; null: the image has no say. */
    shmem: bigint('shmem', { mode: 'number' }),
    size: integer('size').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [unique('warm_pools_name_key').on(table.name), check('warm_pools_size_check', sql`${table.size} >= 0`)],
);

/** Agents on which slots of a pool failed one after the other, the last time without one that became ready since. */
export const warmPoolFailures = pgTable(
  'warm_pool_failures',
  {
    poolId: uuid('pool_id')
      .notNull()
      .references(() => warmPools.id, { onDelete: 'cascade' }),
    agentId: text('agent_id')
      .$type<AgentId>()
      .notNull()
      .references(() => agents.id, { onDelete: 'cascade' }),
    failures: integer('failures').notNull(),
    /** Before that no slot of the pool is started there. */
    retryAt: moment('retry_at').notNull(),
    error: jsonb('error').$type<ErrorBody>(),
    failedAt: moment('failed_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ name: 'warm_pool_failures_pkey', columns: [table.poolId, table.agentId] }),
    index('warm_pool_failures_agent_id_idx').on(table.agentId),
  ],
);

export const warmSlotStatuses = ['starting', 'ready'] as const;
export type WarmSlotStatus = (typeof warmSlotStatuses)[number];

/**
 * Kernels at agents that belong to nobody yet. Entries of the ledger that give way: a placement that needs the room removes
 * them, and one that takes a slot takes its row.
 */
export const warmSlots = pgTable(
  'warm_slots',
  {
    /** That of the kernel that it becomes. */
    id: uuid('id').$type<KernelId>().primaryKey(),
    poolId: uuid('pool_id')
      .notNull()
      .references(() => warmPools.id, { onDelete: 'cascade' }),
    agentId: text('agent_id')
      .$type<AgentId>()
      .notNull()
      .references(() => agents.id, { onDelete: 'cascade' }),
    slots: jsonb('slots').$type<ResourceSlotTexts>().notNull(),
    /** Who had its image when it was started; null: agents only. */
    imageRegistryId: uuid('image_registry_id').references(() => containerRegistries.id, { onDelete: 'set null' }),
    imageDigest: text('image_digest'),
    imageManifestDigest: text('image_manifest_digest'),
    /** What its group said when it was made, as that cannot be changed any more. */
    egress: jsonb('egress').$type<Record<string, unknown>>().notNull().default({ policy: 'open' }),
    mayScatter: boolean('may_scatter').notNull().default(true),
    status: text('status').$type<WarmSlotStatus>().notNull().default('starting'),
    createdAt: moment('created_at').notNull().defaultNow(),
    readyAt: moment('ready_at'),
  },
  (table) => [
    check('warm_slots_status_check', oneOf(table.status, warmSlotStatuses)),
    index('warm_slots_agent_id_idx').on(table.agentId),
    index('warm_slots_pool_id_idx').on(table.poolId),
  ],
);
