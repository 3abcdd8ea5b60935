import { z } from 'zod';
import { type CallContext, procedureFor, router } from './link.ts';
import { inputLimits, plainText } from './text.ts';

/**
 * Resource policies: what key pairs, users and projects may use. Of all numbers 0 is no limit. What is stored for
 * features that this version does not have is said in `docs/dev/known-limits.md`.
 */

export const resourceNameSchema = z
  .string()
  .max(inputLimits.name)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'takes letters, digits, ".", "_" and "-", and begins with a letter or digit');

/** Amounts by slot: `{ cpu: '8', mem: '16g', 'cuda.device': 'Infinity' }`. Sizes are in bytes when they come back. */
export const limitSlotsSchema = z
  .record(plainText(inputLimits.slot).min(1), z.union([plainText(inputLimits.slot), z.number()]))
  .refine((slots) => Object.keys(slots).length <= inputLimits.slots, `must have at most ${inputLimits.slots} entries`);

/** PostgreSQL's integer. */
const whole = z.number().int().min(0).max(2_147_483_647);
const count = (about: string) => whole.describe(`${about}; 0: any number`);

const keypairPolicyFields = {
  defaultForUnspecified: z
    .enum(['LIMITED', 'UNLIMITED'])
    .describe('what slots are that `totalResourceSlots` does not name: none at all, or without limit'),
  totalResourceSlots: limitSlotsSchema.describe('what all sessions of the key pair may hold together'),
  maxSessionLifetime: whole.describe('seconds from the creation of a session until it ends; 0: never'),
  maxConcurrentSessions: count('sessions that hold resources'),
  maxConcurrentSftpSessions: count('private (`system`) sessions'),
  maxPendingSessionCount: count('sessions that wait'),
  maxPendingSessionResourceSlots: limitSlotsSchema.describe(
    'what all waiting sessions may ask for together; slots that are not named: any amount',
  ),
  maxContainersPerSession: count('kernels of one session'),
  maxPriority: z.number().int().min(0).max(100).nullable().describe('highest priority of a session; null: any'),
  idleTimeout: whole
    .nullable()
    .describe("seconds without use until a session ends; 0: never; null: the installation's setting"),
};

export const createKeypairPolicySchema = z.strictObject({
  name: resourceNameSchema,
  defaultForUnspecified: keypairPolicyFields.defaultForUnspecified.default('UNLIMITED'),
  totalResourceSlots: keypairPolicyFields.totalResourceSlots.default({}),
  maxSessionLifetime: keypairPolicyFields.maxSessionLifetime.default(0),
  maxConcurrentSessions: keypairPolicyFields.maxConcurrentSessions.default(0),
  maxConcurrentSftpSessions: keypairPolicyFields.maxConcurrentSftpSessions.default(1),
  maxPendingSessionCount: keypairPolicyFields.maxPendingSessionCount.default(0),
  maxPendingSessionResourceSlots: keypairPolicyFields.maxPendingSessionResourceSlots.default({}),
  maxContainersPerSession: keypairPolicyFields.maxContainersPerSession.default(0),
  maxPriority: keypairPolicyFields.maxPriority.default(null),
  idleTimeout: keypairPolicyFields.idleTimeout.default(null),
});
export const modifyKeypairPolicySchema = z
  .strictObject(keypairPolicyFields)
  .partial()
  .extend({ name: resourceNameSchema });

const userPolicyFields = {
  totalResourceSlots: limitSlotsSchema.describe(
    'what all sessions of the user may hold together, whichever key pair; slots that are not named: without limit',
  ),
  maxSessionCountPerModelSession: count('sessions of one model service'),
  maxCustomizedImageCount: count('images made of sessions'),
  maxConcurrentLogins: count('logins at a time'),
};
export const createUserPolicySchema = z.strictObject({
  name: resourceNameSchema,
  totalResourceSlots: userPolicyFields.totalResourceSlots.default({}),
  maxSessionCountPerModelSession: userPolicyFields.maxSessionCountPerModelSession.default(0),
  maxCustomizedImageCount: userPolicyFields.maxCustomizedImageCount.default(3),
  maxConcurrentLogins: userPolicyFields.maxConcurrentLogins.default(0),
});
export const modifyUserPolicySchema = z.strictObject(userPolicyFields).partial().extend({ name: resourceNameSchema });

const projectPolicyFields = { maxNetworkCount: count('networks of the project') };
export const createProjectPolicySchema = z.strictObject({
  name: resourceNameSchema,
  maxNetworkCount: projectPolicyFields.maxNetworkCount.default(0),
});
export const modifyProjectPolicySchema = z
  .strictObject(projectPolicyFields)
  .partial()
  .extend({ name: resourceNameSchema });

export type CreateKeypairPolicyInput = z.infer<typeof createKeypairPolicySchema>;
export type ModifyKeypairPolicyInput = z.infer<typeof modifyKeypairPolicySchema>;
export type CreateUserPolicyInput = z.infer<typeof createUserPolicySchema>;
export type ModifyUserPolicyInput = z.infer<typeof modifyUserPolicySchema>;
export type CreateProjectPolicyInput = z.infer<typeof createProjectPolicySchema>;
export type ModifyProjectPolicyInput = z.infer<typeof modifyProjectPolicySchema>;

type Slots = Record<string, string>;

export interface KeypairPolicyView {
  readonly name: string;
  readonly defaultForUnspecified: 'LIMITED' | 'UNLIMITED';
  readonly totalResourceSlots: Slots;
  readonly maxSessionLifetime: number;
  readonly maxConcurrentSessions: number;
  readonly maxConcurrentSftpSessions: number;
  readonly maxPendingSessionCount: number;
  readonly maxPendingSessionResourceSlots: Slots;
  readonly maxContainersPerSession: number;
  readonly maxPriority: number | null;
  readonly idleTimeout: number | null;
  readonly createdAt: string;
}

export interface UserPolicyView {
  readonly name: string;
  readonly totalResourceSlots: Slots;
  readonly maxSessionCountPerModelSession: number;
  readonly maxCustomizedImageCount: number;
  readonly maxConcurrentLogins: number;
  readonly createdAt: string;
}

export interface ProjectPolicyView {
  readonly name: string;
  readonly maxNetworkCount: number;
  readonly createdAt: string;
}

export const namedSchema = z.strictObject({ name: resourceNameSchema });

/** Everybody sees the policies of their own; what is used cannot be deleted. */
export interface PolicyApi<View, Create, Modify> {
  list(ctx: CallContext): Promise<View[]>;
  get(input: { name: string }, ctx: CallContext): Promise<View>;
  create(input: Create, ctx: CallContext): Promise<View>;
  /** What is absent stays as it is. */
  modify(input: Modify, ctx: CallContext): Promise<View>;
  delete(input: { name: string }, ctx: CallContext): Promise<void>;
}

export interface ResourcePolicyApi {
  readonly keypair: PolicyApi<KeypairPolicyView, CreateKeypairPolicyInput, ModifyKeypairPolicyInput>;
  readonly user: PolicyApi<UserPolicyView, CreateUserPolicyInput, ModifyUserPolicyInput>;
  readonly project: PolicyApi<ProjectPolicyView, CreateProjectPolicyInput, ModifyProjectPolicyInput>;
}

export function createResourcePolicyRouter({ keypair, user, project }: ResourcePolicyApi) {
  const read = procedureFor('resource-policy:read');
  const modify = procedureFor('resource-policy:modify');
  return router({
    keypair: router({
      list: read.query(({ ctx }) => keypair.list(ctx)),
      get: read.input(namedSchema).query(({ input, ctx }) => keypair.get(input, ctx)),
      create: modify.input(createKeypairPolicySchema).mutation(({ input, ctx }) => keypair.create(input, ctx)),
      modify: modify.input(modifyKeypairPolicySchema).mutation(({ input, ctx }) => keypair.modify(input, ctx)),
      delete: modify.input(namedSchema).mutation(({ input, ctx }) => keypair.delete(input, ctx)),
    }),
    user: router({
      list: read.query(({ ctx }) => user.list(ctx)),
      get: read.input(namedSchema).query(({ input, ctx }) => user.get(input, ctx)),
      create: modify.input(createUserPolicySchema).mutation(({ input, ctx }) => user.create(input, ctx)),
      modify: modify.input(modifyUserPolicySchema).mutation(({ input, ctx }) => user.modify(input, ctx)),
      delete: modify.input(namedSchema).mutation(({ input, ctx }) => user.delete(input, ctx)),
    }),
    project: router({
      list: read.query(({ ctx }) => project.list(ctx)),
      get: read.input(namedSchema).query(({ input, ctx }) => project.get(input, ctx)),
      create: modify.input(createProjectPolicySchema).mutation(({ input, ctx }) => project.create(input, ctx)),
      modify: modify.input(modifyProjectPolicySchema).mutation(({ input, ctx }) => project.modify(input, ctx)),
      delete: modify.input(namedSchema).mutation(({ input, ctx }) => project.delete(input, ctx)),
    }),
  });
}
