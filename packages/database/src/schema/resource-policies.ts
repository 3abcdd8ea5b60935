import type { ResourceSlotTexts } from '@backend.ai/core';
import { bigint, check, integer, jsonb, pgTable, text } from 'drizzle-orm/pg-core';
import { moment, oneOf } from './columns.ts';

/** What an amount is that a policy does not name: nothing, or without limit. */
export const unspecifiedRules = ['LIMITED', 'UNLIMITED'] as const;
export type UnspecifiedRule = (typeof unspecifiedRules)[number];

/** Every installation has one policy of each kind that nothing was said about, which limits nothing. */
export const defaultPolicy = 'default';

/** What one key pair may use at a time. Of all numbers 0 is no limit. */
export const keypairResourcePolicies = pgTable(
  'keypair_resource_policies',
  {
    name: text('name').primaryKey(),
    defaultForUnspecified: text('default_for_unspecified').$type<UnspecifiedRule>().notNull().default('UNLIMITED'),
    totalResourceSlots: jsonb('total_resource_slots').$type<ResourceSlotTexts>().notNull().default({}),
    /** Seconds from the creation of a session. */
    maxSessionLifetime: integer('max_session_lifetime').notNull().default(0),
    maxConcurrentSessions: integer('max_concurrent_sessions').notNull().default(0),
    maxConcurrentSftpSessions: integer('max_concurrent_sftp_sessions').notNull().default(0),
    maxPendingSessionCount: integer('max_pending_session_count').notNull().default(0),
    maxPendingSessionResourceSlots: jsonb('max_pending_session_resource_slots')
      .$type<ResourceSlotTexts>()
      .notNull()
      .default({}),
    maxContainersPerSession: integer('max_containers_per_session').notNull().default(0),
    /** Null: any. */
    maxPriority: integer('max_priority'),
    /** Seconds without use; 0 never ends a session, null leaves it to the installation's setting. */
    idleTimeout: integer('idle_timeout'),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    check('keypair_resource_policies_unspecified_check', oneOf(table.defaultForUnspecified, unspecifiedRules)),
  ],
);

/** What a user may have, whichever key pair is used. */
export const userResourcePolicies = pgTable('user_resource_policies', {
  name: text('name').primaryKey(),
  /** Of all key pairs together; what is not named is unlimited. */
  totalResourceSlots: jsonb('total_resource_slots').$type<ResourceSlotTexts>().notNull().default({}),
  maxSessionCountPerModelSession: integer('max_session_count_per_model_session').notNull().default(0),
  maxCustomizedImageCount: integer('max_customized_image_count').notNull().default(3),
  maxConcurrentLogins: integer('max_concurrent_logins').notNull().default(0),
  createdAt: moment('created_at').notNull().defaultNow(),
});

export const projectResourcePolicies = pgTable('project_resource_policies', {
  name: text('name').primaryKey(),
  maxNetworkCount: integer('max_network_count').notNull().default(0),
  createdAt: moment('created_at').notNull().defaultNow(),
});

/** Counted up by whoever decides about a limit of the scope: see the repository of quotas. */
export const quotaTurns = pgTable('quota_turns', {
  scope: text('scope').primaryKey(),
  turn: bigint('turn', { mode: 'number' }).notNull().default(1),
});

export type KeypairResourcePolicyRow = typeof keypairResourcePolicies.$inferSelect;
export type UserResourcePolicyRow = typeof userResourcePolicies.$inferSelect;
export type ProjectResourcePolicyRow = typeof projectResourcePolicies.$inferSelect;
