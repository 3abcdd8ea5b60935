import {
  AppError,
  amountFromText,
  amountToText,
  sessionResults,
  sessionStatuses,
  sessionTypes,
} from '@backend.ai/core';
import { z } from 'zod';
import {
  fairShareScopes,
  preemptionOrders,
  quotaScopes,
  type Snapshot,
  schedulingPolicies,
  selectionStrategies,
  victimScopes,
} from './snapshot.ts';

/** Bumped when an older reader would misunderstand. */
const version = 1;

const slots = z.record(
  z.string(),
  z
    .string()
    .regex(/^\d+(\.\d{1,3})?$/)
    .transform(amountFromText),
);
const moment = z.number().nonnegative();
const count = z.int().nonnegative();
const owner = z.strictObject({ keypair: z.string(), user: z.string(), project: z.string(), domain: z.string() });

const group = z.strictObject({
  name: z.string(),
  scheduler: z.enum(schedulingPolicies).optional(),
  selection: z.enum(selectionStrategies).optional(),
  slotPriority: z.array(z.string()).optional(),
  roundRobin: count.optional(),
  pendingTimeoutMs: moment.optional(),
  attemptsBeforeGivingUp: count.optional(),
  attemptIntervalMs: moment.optional(),
  maxKernelsPerAgent: count.optional(),
  backfill: z.boolean().optional(),
  preemption: z
    .strictObject({
      enabled: z.boolean(),
      order: z.enum(preemptionOrders).optional(),
      mode: z.enum(['terminate', 'reschedule']).optional(),
      minRuntimeSec: z.number().nonnegative().optional(),
      preemptiblePriority: z.number().optional(),
      victimScope: z.enum(victimScopes).optional(),
    })
    .optional(),
  fairShare: z
    .strictObject({
      halfLifeDays: z.number().positive().optional(),
      lookbackDays: z.number().positive().optional(),
      defaultWeight: z.number().positive().optional(),
      slotWeights: z.record(z.string(), z.number().nonnegative()).optional(),
    })
    .optional(),
  restrictsEgress: z.boolean().optional(),
  history: z
    .strictObject({ startsPerHour: z.number().nonnegative(), samples: count, lastStartAt: moment.optional() })
    .optional(),
});

const agent = z.strictObject({
  id: z.string(),
  status: z.enum(['ALIVE', 'LOST', 'TERMINATED']),
  schedulable: z.boolean(),
  resourceGroup: z.string(),
  architecture: z.string(),
  images: z.array(z.string()),
  fetchesImages: z.boolean().optional(),
  enforcesEgress: z.boolean().optional(),
  clusterNetwork: z.string().optional(),
  capacity: slots,
  used: slots,
  reserved: slots.optional(),
  kernelCount: count.optional(),
  warmSlots: z.array(z.strictObject({ slotId: z.string(), key: z.string(), slots, ready: z.boolean() })).optional(),
});

const pending = z.strictObject({
  sessionId: z.string(),
  resourceGroup: z.string(),
  owner,
  kernels: z
    .array(
      z.strictObject({
        kernelId: z.string(),
        role: z.string(),
        index: count,
        slots,
        image: z.string(),
        architecture: z.string(),
        fetchable: z.boolean().optional(),
      }),
    )
    .min(1),
  clusterMode: z.enum(['single-node', 'multi-node']).optional(),
  type: z.enum(sessionTypes).optional(),
  private: z.boolean().optional(),
  createdAt: moment,
  queuedAt: moment.optional(),
  priority: z.number(),
  requestedPriority: z.number().optional(),
  jobPriority: z.number().optional(),
  isPreemptible: z.boolean().optional(),
  startsAt: moment.optional(),
  dependencies: z
    .array(z.strictObject({ sessionId: z.string(), status: z.enum(sessionStatuses), result: z.enum(sessionResults) }))
    .optional(),
  designated: z.strictObject({ agents: z.array(z.string()), mode: z.enum(['strict', 'preferred']) }).optional(),
  warmKey: z.string().optional(),
  attempts: count.optional(),
  notBefore: moment.optional(),
  refusedBy: z.array(z.string()).optional(),
  timeLimitMs: moment.optional(),
});

const running = z.strictObject({
  sessionId: z.string(),
  resourceGroup: z.string(),
  owner,
  kernels: z.array(z.strictObject({ kernelId: z.string(), agentId: z.string(), slots })),
  private: z.boolean().optional(),
  priority: z.number().optional(),
  jobPriority: z.number().optional(),
  isPreemptible: z.boolean().optional(),
  startedAt: moment.optional(),
  timeLimitMs: moment.optional(),
  ending: z.boolean().optional(),
  awaitsVictims: z.boolean().optional(),
});

const snapshot = z.strictObject({
  /** Of the command that printed it as its document. */
  requestId: z.string().optional(),
  version: z.literal(version),
  now: moment,
  groups: z.array(group),
  agents: z.array(agent),
  pending: z.array(pending),
  running: z.array(running),
  quotas: z.array(
    z.strictObject({
      scope: z.enum(quotaScopes),
      id: z.string(),
      limits: slots,
      unlisted: z.enum(['unlimited', 'zero']).optional(),
      maxSessions: count.optional(),
      maxPrivateSessions: count.optional(),
    }),
  ),
  fairShares: z.array(
    z.strictObject({
      resourceGroup: z.string(),
      scope: z.enum(fairShareScopes),
      id: z.string(),
      usage: slots,
      weight: z.number().positive().optional(),
    }),
  ),
});

/**
 * The text of a snapshot: JSON with amounts as decimal texts, keys and lists in a fixed order, so that snapshots which
 * mean the same have the same text.
 */
export function serialiseSnapshot({ now, groups, agents, pending, running, quotas, fairShares }: Snapshot): string {
  const by = <T>(list: readonly T[], key: (item: T) => string): T[] =>
    [...list].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
  const document = {
    version,
    now,
    groups: by(groups, (item) => item.name),
    agents: by(agents, (item) => item.id).map((item) => ({
      ...item,
      images: [...item.images].sort(),
      ...(item.warmSlots ? { warmSlots: by(item.warmSlots, (slot) => slot.slotId) } : {}),
    })),
    pending: by(pending, (item) => item.sessionId),
    running: by(running, (item) => item.sessionId),
    quotas: by(quotas, (item) => `${item.scope} ${item.id}`),
    fairShares: by(fairShares, (item) => `${item.resourceGroup} ${item.scope} ${item.id}`),
  };
  return `${JSON.stringify(document, inOrder, 1)}\n`;
}

/** @throws AppError `invalid-input` that names the first place that is wrong */
export function parseSnapshot(text: string): Snapshot {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AppError('invalid-input', 'The snapshot is not JSON.', { hint: snapshotHint, cause });
  }
  const parsed = snapshot.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const place = issue?.path.join('.') || 'the document';
    throw new AppError('invalid-input', `The snapshot is wrong at ${place}: ${issue?.message ?? 'unknown'}.`, {
      hint: snapshotHint,
    });
  }
  const { version: _, requestId: __, ...rest } = parsed.data;
  const twice = namedTwice(rest);
  if (twice !== undefined)
    throw new AppError('invalid-input', `The snapshot has ${twice} twice.`, { hint: snapshotHint });
  return rest;
}

/** What is there twice is neither one thing nor two: a session would start and wait at once. */
function namedTwice({ groups, agents, pending: waiting, running: holding, quotas, fairShares }: Snapshot) {
  const sessions = [...waiting, ...holding];
  const names = [
    ...groups.map(({ name }) => `the resource group ${name}`),
    ...agents.map(({ id }) => `the agent ${id}`),
    ...agents.flatMap(({ warmSlots = [] }) => warmSlots.map(({ slotId }) => `the warm slot ${slotId}`)),
    ...sessions.map(({ sessionId }) => `the session ${sessionId}`),
    ...sessions.flatMap(({ kernels }) => kernels.map(({ kernelId }) => `the kernel ${kernelId}`)),
    ...quotas.map(({ scope, id }) => `the quota of the ${scope} ${id}`),
    ...fairShares.map(({ resourceGroup, scope, id }) => `the usage of the ${scope} ${id} in ${resourceGroup}`),
  ];
  const seen = new Set<string>();
  return names.find((name) => seen.size === seen.add(name).size);
}

const snapshotHint = 'Make one with: ./backend.ai mgr scheduler snapshot';

/** Amounts as texts, objects with their keys in alphabetical order. */
function inOrder(_: string, value: unknown): unknown {
  if (typeof value === 'bigint') return amountToText(value);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
