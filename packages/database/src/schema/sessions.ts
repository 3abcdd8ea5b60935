import {
  type AccessKey,
  type AgentId,
  type FailurePolicy,
  failurePolicies,
  type KernelId,
  type KernelStatus,
  kernelStatuses,
  type ProjectId,
  type ResourceSlotTexts,
  type SessionId,
  type SessionResult,
  type SessionStatus,
  type SessionType,
  sessionResults,
  sessionStatuses,
  sessionTypes,
  terminalStatuses,
  type UserId,
} from '@backend.ai/core';
import { isNotNull } from 'drizzle-orm';
import {
  boolean,
  check,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { moment, noneOf, oneOf } from './columns.ts';
import { containerRegistries } from './images.ts';

export const clusterModes = ['single-node', 'multi-node'] as const;
export type ClusterMode = (typeof clusterModes)[number];
export const clusterRoles = ['main', 'sub'] as const;
export type ClusterRole = (typeof clusterRoles)[number];

/**
 * Sessions outlive the people who made them, so owners are recorded without foreign keys.
 * `version` grows by one with every change of the row.
 */
export const sessions = pgTable(
  'sessions',
  {
    id: uuid('id').$type<SessionId>().primaryKey(),
    name: text('name').notNull(),
    domainName: text('domain_name').notNull(),
    projectId: uuid('project_id').$type<ProjectId>().notNull(),
    userId: uuid('user_id').$type<UserId>().notNull(),
    accessKey: text('access_key').$type<AccessKey>().notNull(),
    type: text('type').$type<SessionType>().notNull().default('interactive'),
    image: text('image').notNull(),
    architecture: text('architecture').notNull(),
    /** Who has the image; null: only agents do. */
    imageRegistryId: uuid('image_registry_id').references(() => containerRegistries.id, { onDelete: 'set null' }),
    /** Of the configuration of the image when the session was made. */
    imageDigest: text('image_digest'),
    /** Of its manifest. */
    imageManifestDigest: text('image_manifest_digest'),
    tag: text('tag'),
    clusterMode: text('cluster_mode').$type<ClusterMode>().notNull().default('single-node'),
    /** Number of kernels. */
    clusterSize: integer('cluster_size').notNull().default(1),
    resourceGroup: text('resource_group').notNull(),
    status: text('status').$type<SessionStatus>().notNull().default('PENDING'),
    /** A code of `statusReasons`: nothing is anywhere without a reason. */
    statusReason: text('status_reason').notNull(),
    statusData: jsonb('status_data').$type<Record<string, unknown>>().notNull().default({}),
    result: text('result').$type<SessionResult>().notNull().default('undefined'),
    requestedSlots: jsonb('requested_slots').$type<ResourceSlotTexts>().notNull(),
    environ: jsonb('environ').$type<Record<string, string>>().notNull().default({}),
    options: jsonb('options').$type<Record<string, unknown>>().notNull().default({}),
    /** Higher is considered first. */
    priority: integer('priority').notNull().default(10),
    /** Compared between a session that waits and one that could make room for it. */
    jobPriority: integer('job_priority').notNull().default(0),
    /** Whether it may have to make room for others. */
    isPreemptible: boolean('is_preemptible').notNull().default(true),
    /** Not scheduled before this moment. */
    startsNotBefore: moment('starts_not_before'),
    /** Ids of the agents that its kernels have to be on, one for each kernel of a session over several nodes; empty: any. */
    designatedAgents: jsonb('designated_agents').$type<AgentId[]>().notNull().default([]),
    /** Told of every change of state. */
    callbackUrl: text('callback_url'),
    /** What the end of a sub kernel means for the session. */
    failurePolicy: text('failure_policy').$type<FailurePolicy>().notNull().default('strict'),
    createdAt: moment('created_at').notNull().defaultNow(),
    /** Since when it waits, or waited before it was placed: later than its creation when it started anew. */
    queuedAt: moment('queued_at').notNull().defaultNow(),
    /** Passes in which it was the first that lacked resources, since it waits with its present priority. */
    placementAttempts: integer('placement_attempts').notNull().default(0),
    statusChangedAt: moment('status_changed_at').notNull().defaultNow(),
    scheduledAt: moment('scheduled_at'),
    /** Since when its programs are to stand still; only while it runs. */
    pausedAt: moment('paused_at'),
    /** When they were let go on last, since the session runs. */
    resumedAt: moment('resumed_at'),
    startedAt: moment('started_at'),
    terminatedAt: moment('terminated_at'),
    requestId: text('request_id').notNull(),
    version: integer('version').notNull().default(1),
  },
  (table) => [
    check('sessions_type_check', oneOf(table.type, sessionTypes)),
    check('sessions_cluster_mode_check', oneOf(table.clusterMode, clusterModes)),
    check('sessions_status_check', oneOf(table.status, sessionStatuses)),
    check('sessions_failure_policy_check', oneOf(table.failurePolicy, failurePolicies)),
    check('sessions_result_check', oneOf(table.result, sessionResults)),
    uniqueIndex('sessions_live_name_key').on(table.accessKey, table.name).where(noneOf(table.status, terminalStatuses)),
    index('sessions_image_registry_id_idx').on(table.imageRegistryId).where(isNotNull(table.imageRegistryId)),
    index('sessions_queue_idx').on(table.status, table.priority.desc(), table.createdAt, table.id),
    index('sessions_access_key_created_at_idx').on(table.accessKey, table.createdAt.desc()),
    index('sessions_access_key_name_idx').on(table.accessKey, table.name),
    index('sessions_live_scope_idx')
      .on(table.domainName, table.projectId, table.userId)
      .where(noneOf(table.status, terminalStatuses)),
    index('sessions_live_user_id_idx').on(table.userId).where(noneOf(table.status, terminalStatuses)),
    index('sessions_live_project_id_idx').on(table.projectId).where(noneOf(table.status, terminalStatuses)),
  ],
);

/** A session starts when all that it depends on have ended with success. */
export const sessionDependencies = pgTable(
  'session_dependencies',
  {
    sessionId: uuid('session_id')
      .$type<SessionId>()
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    dependsOn: uuid('depends_on')
      .$type<SessionId>()
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
  },
  (table) => [
    primaryKey({ name: 'session_dependencies_pkey', columns: [table.sessionId, table.dependsOn] }),
    index('session_dependencies_depends_on_idx').on(table.dependsOn),
  ],
);

export const kernels = pgTable(
  'kernels',
  {
    /** Of the present attempt to start it: what goes back to the queue gets a new one. */
    id: uuid('id').$type<KernelId>().primaryKey(),
    sessionId: uuid('session_id')
      .$type<SessionId>()
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    /** Null until scheduled. Agents may be forgotten while their kernels' history stays, so this is no foreign key. */
    agentId: text('agent_id').$type<AgentId>(),
    clusterRole: text('cluster_role').$type<ClusterRole>().notNull().default('main'),
    clusterIndex: integer('cluster_index').notNull().default(1),
    hostname: text('hostname').notNull().default('main1'),
    image: text('image').notNull(),
    status: text('status').$type<KernelStatus>().notNull().default('PENDING'),
    statusReason: text('status_reason').notNull(),
    statusData: jsonb('status_data').$type<Record<string, unknown>>().notNull().default({}),
    requestedSlots: jsonb('requested_slots').$type<ResourceSlotTexts>().notNull(),
    exitCode: integer('exit_code'),
    createdAt: moment('created_at').notNull().defaultNow(),
    statusChangedAt: moment('status_changed_at').notNull().defaultNow(),
    startedAt: moment('started_at'),
    terminatedAt: moment('terminated_at'),
    /** When its agent last named it among its kernels. */
    lastSeenAt: moment('last_seen_at'),
    requestId: text('request_id').notNull(),
    version: integer('version').notNull().default(1),
  },
  (table) => [
    check('kernels_cluster_role_check', oneOf(table.clusterRole, clusterRoles)),
    check('kernels_status_check', oneOf(table.status, kernelStatuses)),
    index('kernels_session_id_idx').on(table.sessionId),
    index('kernels_agent_id_status_idx').on(table.agentId, table.status),
  ],
);

/** Every change of state that a session or one of its kernels went through. Rows are only added. */
export const sessionHistory = pgTable(
  'session_history',
  {
    id: uuid('id').primaryKey(),
    sessionId: uuid('session_id')
      .$type<SessionId>()
      .notNull()
      .references(() => sessions.id, { onDelete: 'cascade' }),
    /** Null: the change is the session's own. */
    kernelId: uuid('kernel_id').$type<KernelId>(),
    /** Null: it was created. */
    fromStatus: text('from_status').$type<SessionStatus>(),
    toStatus: text('to_status').$type<SessionStatus>().notNull(),
    reason: text('reason').notNull(),
    data: jsonb('data').$type<Record<string, unknown>>().notNull().default({}),
    requestId: text('request_id').notNull(),
    at: moment('at').notNull().defaultNow(),
  },
  (table) => [
    check('session_history_to_status_check', oneOf(table.toStatus, sessionStatuses)),
    index('session_history_session_id_at_idx').on(table.sessionId, table.at),
    index('session_history_request_id_idx').on(table.requestId),
  ],
);

export type SessionRow = typeof sessions.$inferSelect;
export type NewSessionRow = typeof sessions.$inferInsert;
export type KernelRow = typeof kernels.$inferSelect;
export type NewKernelRow = typeof kernels.$inferInsert;
export type SessionHistoryRow = typeof sessionHistory.$inferSelect;
