import type { AgentId, KernelId } from '@backend.ai/core';
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  index,
  integer,
  jsonb,
  numeric,
  pgTable,
  primaryKey,
  text,
  uuid,
} from 'drizzle-orm/pg-core';
import { moment, oneOf } from './columns.ts';
import { resourceGroups } from './resource-groups.ts';
import { kernels } from './sessions.ts';

export const agentStatuses = ['ALIVE', 'LOST', 'TERMINATED'] as const;
export type AgentStatus = (typeof agentStatuses)[number];

export const agents = pgTable(
  'agents',
  {
    id: text('id').$type<AgentId>().primaryKey(),
    resourceGroup: text('resource_group')
      .notNull()
      .references(() => resourceGroups.name),
    status: text('status').$type<AgentStatus>().notNull().default('ALIVE'),
    /** Where a manager dials its RPC; null while only the agent's own connection exists. */
    address: text('address'),
    dataAddress: text('data_address'),
    rpcVersion: integer('rpc_version').notNull(),
    version: text('version').notNull(),
    architecture: text('architecture').notNull(),
    backend: text('backend').notNull(),
    /** What the backend can enforce, as the agent reported it. */
    isolation: jsonb('isolation').$type<Record<string, unknown>>().notNull().default({}),
    /** Canonical names of the images it offers. */
    images: jsonb('images').$type<string[]>().notNull().default([]),
    /** An operator's wish: false lets running sessions be and sends no new ones. */
    schedulable: boolean('schedulable').notNull().default(true),
    firstContact: moment('first_contact').notNull().defaultNow(),
    lastHeartbeat: moment('last_heartbeat').notNull().defaultNow(),
    lostAt: moment('lost_at'),
    /** Events up to this sequence number are in; lower ones are repeats. Starts anew with each boot id. */
    lastEventSeq: bigint('last_event_seq', { mode: 'number' }).notNull().default(0),
    bootId: text('boot_id'),
    /** What it can do that not every agent can. */
    features: jsonb('features').$type<string[]>().notNull().default([]),
    /** What its engine belongs to; null: nothing. */
    swarm: jsonb('swarm').$type<Record<string, unknown>>(),
  },
  (table) => [
    check('agents_status_check', oneOf(table.status, agentStatuses)),
    index('agents_resource_group_status_idx').on(table.resourceGroup, table.status),
  ],
);

/** The ledger's balance per agent and slot: `used` and `prereserved` are the sums of the open allocations of each kind. */
export const agentResources = pgTable(
  'agent_resources',
  {
    agentId: text('agent_id')
      .$type<AgentId>()
      .notNull()
      .references(() => agents.id, { onDelete: 'cascade' }),
    slotName: text('slot_name').notNull(),
    capacity: numeric('capacity', { precision: 24, scale: 6 }).notNull(),
    used: numeric('used', { precision: 24, scale: 6 }).notNull().default('0'),
    prereserved: numeric('prereserved', { precision: 24, scale: 6 }).notNull().default('0'),
  },
  (table) => [
    primaryKey({ name: 'agent_resources_pkey', columns: [table.agentId, table.slotName] }),
    // Capacity may shrink below what is used (a device was removed), so only the lower bound is a constraint.
    check('agent_resources_used_check', sql`${table.used} >= 0`),
    check('agent_resources_prereserved_check', sql`${table.prereserved} >= 0`),
  ],
);

/** The ledger's entries. An open one has no `free_at`; setting it is what releases, once. */
export const resourceAllocations = pgTable(
  'resource_allocations',
  {
    kernelId: uuid('kernel_id')
      .$type<KernelId>()
      .notNull()
      .references(() => kernels.id, { onDelete: 'cascade', onUpdate: 'cascade' }),
    slotName: text('slot_name').notNull(),
    agentId: text('agent_id').$type<AgentId>().notNull(),
    amount: numeric('amount', { precision: 24, scale: 6 }).notNull(),
    allocatedAt: moment('allocated_at').notNull().defaultNow(),
    freeAt: moment('free_at'),
    requestId: text('request_id').notNull(),
    /** Announced for a session whose place others still hold. */
    prereserved: boolean('prereserved').notNull().default(false),
  },
  (table) => [
    primaryKey({ name: 'resource_allocations_pkey', columns: [table.kernelId, table.slotName] }),
    check('resource_allocations_amount_check', sql`${table.amount} > 0`),
    index('resource_allocations_open_idx').on(table.agentId).where(sql`${table.freeAt} is null`),
  ],
);

export type AgentRow = typeof agents.$inferSelect;
export type AgentResourceRow = typeof agentResources.$inferSelect;
export type ResourceAllocationRow = typeof resourceAllocations.$inferSelect;
