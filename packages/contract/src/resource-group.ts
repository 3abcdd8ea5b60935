import { sessionTypes } from '@backend.ai/core';
import { z } from 'zod';
import { type EgressPolicy, egressPolicySchema, openEgress } from './egress.ts';
import { type CallContext, procedureFor, router } from './link.ts';
import { namedSchema, resourceNameSchema } from './resource-policy.ts';
import { inputLimits, plainText } from './text.ts';

/** Resource groups: agents that are scheduled together, how, and for whom. */

/** A year: longer waits and halves of usage mean nothing. */
const days = z.number().positive().max(366);
const seconds = z.number().int().min(0).max(31_622_400);

const preemptionSchema = z.strictObject({
  enabled: z.boolean().default(false).describe('a session may take the place of running ones of lower job priority'),
  order: z
    .enum(['oldest', 'newest', 'fewest-sessions', 'smallest-resources'])
    .default('oldest')
    .describe('whose turn it is among sessions of one job priority'),
  mode: z.enum(['terminate', 'reschedule']).default('terminate').describe('what becomes of those that make room'),
  minRuntime: seconds.default(0).describe('seconds that a session must have run before it may be made to leave'),
  victimScope: z
    .enum(['user', 'project', 'domain', 'resource-group'])
    .default('user')
    .describe('what both must have in common'),
  preemptiblePriority: z
    .number()
    .int()
    .min(0)
    .max(100)
    .default(5)
    .describe('sessions of a higher job priority never have to leave'),
});

const fairShareSchema = z.strictObject({
  halfLifeDays: days.default(7).describe('days after which usage counts half'),
  lookbackDays: days.default(28).describe('days of which usage counts'),
  defaultWeight: z.number().positive().max(1_000_000).default(1).describe('of whoever has no weight'),
  slotWeights: z
    .record(plainText(inputLimits.slot).min(1), z.number().min(0).max(1_000_000))
    .default({ cpu: 1, mem: 0.001, 'cuda.device': 10, 'cuda.shares': 10 })
    .describe('how much a slot counts; those that are not named count 1'),
});

/** What is absent has its default. Unknown names are refused. */
export const resourceGroupOptionsSchema = z.strictObject({
  allowedSessionTypes: z
    .array(z.enum(sessionTypes))
    .max(sessionTypes.length)
    .default([...sessionTypes])
    .describe('sessions of other types are refused'),
  pendingTimeout: seconds.default(0).describe('seconds after which a session that waits is given up; 0: never'),
  attemptsBeforeGivingUp: z
    .number()
    .int()
    .min(0)
    .max(1000)
    .default(5)
    .describe('failed attempts after which the first of the queue lets lower priorities pass; 0: never'),
  attemptInterval: seconds.default(60).describe('seconds between passes that count as attempts'),
  agentSelectionStrategy: z
    .enum(['concentrated', 'dispersed', 'roundrobin', 'legacy'])
    .default('dispersed')
    .describe('which of the agents that can take a session gets it'),
  agentSelectionPriority: z
    .array(plainText(inputLimits.slot).min(1))
    .max(inputLimits.slots)
    .default(['cuda', 'rocm', 'tpu', 'cpu', 'mem'])
    .describe('devices in the order in which agents are compared'),
  maxKernelsPerAgent: z.number().int().min(0).max(100_000).default(0).describe('0: any number'),
  backfill: z
    .boolean()
    .default(false)
    .describe('sessions behind one that waits for resources may start where that does not delay it'),
  allowFractionalResourceFragmentation: z
    .boolean()
    .default(true)
    .describe('a fraction of a device may be taken from several of them'),
  preemption: preemptionSchema.prefault({}).describe('whether and how sessions make room for others'),
  fairShare: fairShareSchema.prefault({}).describe('for the scheduler `fair-share`'),
});
export type ResourceGroupOptions = z.infer<typeof resourceGroupOptionsSchema>;
export type ResourceGroupOptionsInput = z.input<typeof resourceGroupOptionsSchema>;

const fields = {
  description: plainText(1024).describe('for people'),
  isActive: z.boolean().describe('false: no new sessions'),
  isPublic: z.boolean().describe('everybody may use it; otherwise only those who are allowed'),
  isDefault: z.boolean().describe('preferred where a session names none; the one that was so before no longer is'),
  scheduler: z
    .enum(['fifo', 'lifo', 'drf', 'fair-share'])
    .describe('in which order its queue is served, among sessions of one priority'),
  options: resourceGroupOptionsSchema.describe('see below; replaced as a whole'),
  egress: egressPolicySchema.describe(
    'what its kernels may call beyond their machine; of those that start from now on',
  ),
};

export const createResourceGroupSchema = z.strictObject({
  name: resourceNameSchema,
  description: fields.description.default(''),
  isActive: fields.isActive.default(true),
  isPublic: fields.isPublic.default(true),
  isDefault: fields.isDefault.default(false),
  scheduler: fields.scheduler.default('fifo'),
  options: fields.options.prefault({}),
  egress: fields.egress.default(openEgress),
});
export const modifyResourceGroupSchema = z.strictObject(fields).partial().extend({ name: resourceNameSchema });

/** One of a domain, a project (by id, or by domain and name) or a key pair. */
export const allowResourceGroupSchema = z.strictObject({
  name: resourceNameSchema,
  to: z.union([
    z.strictObject({ domain: plainText(inputLimits.name).min(1) }),
    z.strictObject({ project: z.uuid() }),
    z.strictObject({ accessKey: plainText(inputLimits.name).min(1) }),
  ]),
});

export const listUsableGroupsSchema = z.strictObject({
  /** Name or id of a project of the caller; absent: those of all projects count. */
  project: plainText(inputLimits.name).min(1).optional(),
});

export type CreateResourceGroupInput = z.infer<typeof createResourceGroupSchema>;
export type ModifyResourceGroupInput = z.infer<typeof modifyResourceGroupSchema>;
export type AllowResourceGroupInput = z.infer<typeof allowResourceGroupSchema>;
export type ListUsableGroupsInput = z.infer<typeof listUsableGroupsSchema>;

/** As anybody sees it who may use it. */
export interface ResourceGroupSummary {
  readonly name: string;
  readonly description: string;
  readonly isDefault: boolean;
  readonly scheduler: string;
  readonly allowedSessionTypes: readonly string[];
}

export interface ResourceGroupView {
  readonly name: string;
  readonly description: string;
  readonly isActive: boolean;
  readonly isPublic: boolean;
  readonly isDefault: boolean;
  readonly scheduler: 'fifo' | 'lifo' | 'drf' | 'fair-share';
  readonly options: ResourceGroupOptions;
  readonly egress: EgressPolicy;
  readonly allowed: {
    readonly domains: readonly string[];
    readonly projects: ReadonlyArray<{ readonly id: string; readonly domain: string; readonly name: string }>;
    readonly accessKeys: readonly string[];
  };
  readonly agents: number;
  readonly createdAt: string;
}

export interface ResourceGroupApi {
  /** Active ones that the caller may use: public, or allowed to the domain, a project or the key pair. */
  list(input: ListUsableGroupsInput, ctx: CallContext): Promise<ResourceGroupSummary[]>;
}

export interface ResourceGroupAdminApi {
  list(ctx: CallContext): Promise<ResourceGroupView[]>;
  get(input: { name: string }, ctx: CallContext): Promise<ResourceGroupView>;
  create(input: CreateResourceGroupInput, ctx: CallContext): Promise<ResourceGroupView>;
  modify(input: ModifyResourceGroupInput, ctx: CallContext): Promise<ResourceGroupView>;
  /** Not while it has agents or live sessions. */
  delete(input: { name: string }, ctx: CallContext): Promise<void>;
  allow(input: AllowResourceGroupInput, ctx: CallContext): Promise<ResourceGroupView>;
  disallow(input: AllowResourceGroupInput, ctx: CallContext): Promise<ResourceGroupView>;
}

export function createResourceGroupRouter(groups: ResourceGroupApi) {
  return router({
    list: procedureFor('resource-group:use')
      .input(listUsableGroupsSchema)
      .query(({ input, ctx }) => groups.list(input, ctx)),
  });
}

export function createResourceGroupAdminRouter(groups: ResourceGroupAdminApi) {
  const read = procedureFor('resource-group:read');
  const modify = procedureFor('resource-group:modify');
  return router({
    list: read.query(({ ctx }) => groups.list(ctx)),
    get: read.input(namedSchema).query(({ input, ctx }) => groups.get(input, ctx)),
    create: modify.input(createResourceGroupSchema).mutation(({ input, ctx }) => groups.create(input, ctx)),
    modify: modify.input(modifyResourceGroupSchema).mutation(({ input, ctx }) => groups.modify(input, ctx)),
    delete: modify.input(namedSchema).mutation(({ input, ctx }) => groups.delete(input, ctx)),
    allow: modify.input(allowResourceGroupSchema).mutation(({ input, ctx }) => groups.allow(input, ctx)),
    disallow: modify.input(allowResourceGroupSchema).mutation(({ input, ctx }) => groups.disallow(input, ctx)),
  });
}
