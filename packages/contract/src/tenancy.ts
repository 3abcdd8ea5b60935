import { type UserRole, type UserStatus, userRoles, userStatuses } from '@backend.ai/core';
import { z } from 'zod';
import { type CallContext, procedureFor, router } from './link.ts';
import { inputLimits, plainText } from './text.ts';

/** Tenants: domains, projects in them, users, and the key pairs by which users are known. */

const name = z
  .string()
  .max(inputLimits.name)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'takes letters, digits, ".", "_" and "-", and begins with a letter or digit');
const text = plainText(1_024);
/** Addresses differ by more than their case. */
const email = z
  .email()
  .max(128)
  .transform((address) => address.toLowerCase());
const ref = plainText(128).min(1);
const slots = z
  .record(plainText(inputLimits.slot).min(1), plainText(inputLimits.slot).min(1))
  .refine((amounts) => Object.keys(amounts).length <= inputLimits.slots, `at most ${inputLimits.slots} slots`);
export const passwordSchema = plainText(128).min(8);

const page = {
  limit: z.number().int().min(1).max(1_000).default(100),
  offset: z.number().int().min(0).max(1_000_000_000).default(0),
};
export interface Page<T> {
  readonly items: T[];
  /** Of all pages. */
  readonly total: number;
}

const domainFields = {
  description: text.optional(),
  isActive: z.boolean().optional(),
  /** What all its sessions may hold together, amounts by slot; what is not named is unlimited. */
  totalResourceSlots: slots.optional(),
  integrationId: text.nullable().optional(),
};
export const domainRefSchema = z.strictObject({ name: ref });
export const listDomainsSchema = z.strictObject(page);
export const createDomainSchema = z.strictObject({ name, ...domainFields });
export const modifyDomainSchema = z.strictObject({ name: ref, ...domainFields });

const projectFields = { ...domainFields, resourcePolicy: name.optional() };
/** An id, or a name, which needs a domain (that of the caller unless given). */
const projectRef = { project: ref, domain: ref.optional() };
export const projectRefSchema = z.strictObject(projectRef);
export const listProjectsSchema = z.strictObject({ domain: ref.optional(), ...page });
export const createProjectSchema = z.strictObject({ name, domain: ref.optional(), ...projectFields });
export const modifyProjectSchema = z.strictObject({ ...projectRef, name: name.optional(), ...projectFields });
export const projectMembersSchema = z.strictObject({
  ...projectRef,
  /** Ids or e-mail addresses. */
  users: z.array(ref).min(1).max(1_000),
});

const userFields = {
  username: name.optional(),
  fullName: plainText(128).optional(),
  role: z.enum(userRoles).optional(),
  status: z.enum(userStatuses).exclude(['deleted']).optional(),
  description: text.optional(),
  needPasswordChange: z.boolean().optional(),
  resourcePolicy: name.optional(),
};
/** An id or an e-mail address. */
export const userRefSchema = z.strictObject({ user: ref });
export const listUsersSchema = z.strictObject({
  domain: ref.optional(),
  project: ref.optional(),
  /** Those that are deleted are shown only when asked for. */
  status: z.enum(userStatuses).optional(),
  role: z.enum(userRoles).optional(),
  ...page,
});
export const createUserSchema = z.strictObject({
  email,
  /** Without one, there is no logging in with a password. */
  password: passwordSchema.optional(),
  domain: ref.optional(),
  /** Ids or names in that domain. */
  projects: z.array(ref).max(100).default([]),
  ...userFields,
});
export const modifyUserSchema = z.strictObject({
  user: ref,
  password: passwordSchema.optional(),
  domain: ref.optional(),
  ...userFields,
});
export const changePasswordSchema = z.strictObject({
  oldPassword: plainText(1_024).optional(),
  newPassword: passwordSchema,
});

const keypairFields = {
  isActive: z.boolean().optional(),
  /** It has the rights of its user's role; otherwise those of an ordinary user. */
  isAdmin: z.boolean().optional(),
  /** Calls per 15 minutes; 0 is unlimited. */
  rateLimit: z.number().int().min(0).max(1_000_000_000).optional(),
  resourcePolicy: name.optional(),
};
export const keypairRefSchema = z.strictObject({ accessKey: ref });
export const listKeypairsSchema = z.strictObject({
  user: ref.optional(),
  domain: ref.optional(),
  isActive: z.boolean().optional(),
  ...page,
});
export const createKeypairSchema = z.strictObject({ user: ref, ...keypairFields });
export const modifyKeypairSchema = z.strictObject({
  accessKey: ref,
  ...keypairFields,
  /** It becomes the one that its user gets by logging in. */
  isMain: z.literal(true).optional(),
});

export interface DomainView {
  readonly name: string;
  readonly description: string;
  readonly isActive: boolean;
  readonly totalResourceSlots: Record<string, string>;
  readonly integrationId: string | null;
  readonly createdAt: string;
  readonly modifiedAt: string;
}
export interface ProjectView extends DomainView {
  readonly id: string;
  readonly domain: string;
  readonly resourcePolicy: string;
  readonly members: number;
}
export interface UserView {
  readonly id: string;
  readonly email: string;
  readonly username: string;
  readonly fullName: string;
  readonly role: UserRole;
  readonly status: UserStatus;
  readonly statusReason: string;
  readonly domain: string;
  readonly projects: Array<{ readonly id: string; readonly name: string }>;
  readonly description: string;
  readonly hasPassword: boolean;
  readonly needPasswordChange: boolean;
  readonly passwordChangedAt: string | null;
  readonly resourcePolicy: string;
  /** Null: all key pairs were deleted. */
  readonly mainAccessKey: string | null;
  readonly createdAt: string;
  readonly modifiedAt: string;
}
export interface KeypairView {
  readonly accessKey: string;
  readonly userId: string;
  readonly email: string;
  readonly domain: string;
  readonly isActive: boolean;
  readonly isAdmin: boolean;
  readonly isMain: boolean;
  readonly rateLimit: number;
  readonly resourcePolicy: string;
  /** To the minute. */
  readonly lastUsedAt: string | null;
  readonly createdAt: string;
  readonly modifiedAt: string;
}
/** Shown once: the secret is stored encrypted and never told again. */
export interface NewKeypair {
  readonly keypair: KeypairView;
  readonly secretKey: string;
}

type Input<T extends z.ZodType> = z.output<T>;

export interface DomainAdminApi {
  list(input: Input<typeof listDomainsSchema>, ctx: CallContext): Promise<Page<DomainView>>;
  get(input: Input<typeof domainRefSchema>, ctx: CallContext): Promise<DomainView>;
  create(input: Input<typeof createDomainSchema>, ctx: CallContext): Promise<DomainView>;
  modify(input: Input<typeof modifyDomainSchema>, ctx: CallContext): Promise<DomainView>;
  /** Makes it inactive: its users get in no more. */
  delete(input: Input<typeof domainRefSchema>, ctx: CallContext): Promise<void>;
  /** Removes it for good; it must have neither users nor projects. */
  purge(input: Input<typeof domainRefSchema>, ctx: CallContext): Promise<void>;
}
export interface ProjectAdminApi {
  list(input: Input<typeof listProjectsSchema>, ctx: CallContext): Promise<Page<ProjectView>>;
  get(input: Input<typeof projectRefSchema>, ctx: CallContext): Promise<ProjectView>;
  create(input: Input<typeof createProjectSchema>, ctx: CallContext): Promise<ProjectView>;
  modify(input: Input<typeof modifyProjectSchema>, ctx: CallContext): Promise<ProjectView>;
  delete(input: Input<typeof projectRefSchema>, ctx: CallContext): Promise<void>;
  purge(input: Input<typeof projectRefSchema>, ctx: CallContext): Promise<void>;
  addMembers(input: Input<typeof projectMembersSchema>, ctx: CallContext): Promise<ProjectView>;
  removeMembers(input: Input<typeof projectMembersSchema>, ctx: CallContext): Promise<ProjectView>;
}
export interface UserAdminApi {
  list(input: Input<typeof listUsersSchema>, ctx: CallContext): Promise<Page<UserView>>;
  get(input: Input<typeof userRefSchema>, ctx: CallContext): Promise<UserView>;
  /** With a first key pair. */
  create(input: Input<typeof createUserSchema>, ctx: CallContext): Promise<{ user: UserView } & NewKeypair>;
  modify(input: Input<typeof modifyUserSchema>, ctx: CallContext): Promise<UserView>;
  /** Of the caller. */
  changePassword(input: Input<typeof changePasswordSchema>, ctx: CallContext): Promise<void>;
  /** Marks the user deleted and the key pairs inactive. */
  delete(input: Input<typeof userRefSchema>, ctx: CallContext): Promise<void>;
  /** Removes the user with all key pairs. */
  purge(input: Input<typeof userRefSchema>, ctx: CallContext): Promise<void>;
}
export interface KeypairAdminApi {
  list(input: Input<typeof listKeypairsSchema>, ctx: CallContext): Promise<Page<KeypairView>>;
  get(input: Input<typeof keypairRefSchema>, ctx: CallContext): Promise<KeypairView>;
  create(input: Input<typeof createKeypairSchema>, ctx: CallContext): Promise<NewKeypair>;
  modify(input: Input<typeof modifyKeypairSchema>, ctx: CallContext): Promise<KeypairView>;
  delete(input: Input<typeof keypairRefSchema>, ctx: CallContext): Promise<void>;
}

export interface TenancyServices {
  readonly domain: DomainAdminApi;
  readonly project: ProjectAdminApi;
  readonly user: UserAdminApi;
  readonly keypair: KeypairAdminApi;
}

export function createDomainRouter(api: DomainAdminApi) {
  const read = procedureFor('domain:read');
  const change = procedureFor('domain:modify');
  return router({
    list: read.input(listDomainsSchema).query(({ input, ctx }) => api.list(input, ctx)),
    get: read.input(domainRefSchema).query(({ input, ctx }) => api.get(input, ctx)),
    create: procedureFor('domain:create')
      .input(createDomainSchema)
      .mutation(({ input, ctx }) => api.create(input, ctx)),
    modify: change.input(modifyDomainSchema).mutation(({ input, ctx }) => api.modify(input, ctx)),
    delete: procedureFor('domain:delete')
      .input(domainRefSchema)
      .mutation(({ input, ctx }) => api.delete(input, ctx)),
    purge: procedureFor('domain:purge')
      .input(domainRefSchema)
      .mutation(({ input, ctx }) => api.purge(input, ctx)),
  });
}

export function createProjectRouter(api: ProjectAdminApi) {
  const read = procedureFor('project:read');
  const change = procedureFor('project:modify');
  return router({
    list: read.input(listProjectsSchema).query(({ input, ctx }) => api.list(input, ctx)),
    get: read.input(projectRefSchema).query(({ input, ctx }) => api.get(input, ctx)),
    create: procedureFor('project:create')
      .input(createProjectSchema)
      .mutation(({ input, ctx }) => api.create(input, ctx)),
    modify: change.input(modifyProjectSchema).mutation(({ input, ctx }) => api.modify(input, ctx)),
    delete: procedureFor('project:delete')
      .input(projectRefSchema)
      .mutation(({ input, ctx }) => api.delete(input, ctx)),
    purge: procedureFor('project:purge')
      .input(projectRefSchema)
      .mutation(({ input, ctx }) => api.purge(input, ctx)),
    addMembers: change.input(projectMembersSchema).mutation(({ input, ctx }) => api.addMembers(input, ctx)),
    removeMembers: change.input(projectMembersSchema).mutation(({ input, ctx }) => api.removeMembers(input, ctx)),
  });
}

export function createUserRouter(api: UserAdminApi) {
  const read = procedureFor('user:read');
  return router({
    list: read.input(listUsersSchema).query(({ input, ctx }) => api.list(input, ctx)),
    get: read.input(userRefSchema).query(({ input, ctx }) => api.get(input, ctx)),
    create: procedureFor('user:create')
      .input(createUserSchema)
      .mutation(({ input, ctx }) => api.create(input, ctx)),
    modify: procedureFor('user:modify')
      .input(modifyUserSchema)
      .mutation(({ input, ctx }) => api.modify(input, ctx)),
    changePassword: procedureFor('user:change-password')
      .input(changePasswordSchema)
      .mutation(({ input, ctx }) => api.changePassword(input, ctx)),
    delete: procedureFor('user:delete')
      .input(userRefSchema)
      .mutation(({ input, ctx }) => api.delete(input, ctx)),
    purge: procedureFor('user:purge')
      .input(userRefSchema)
      .mutation(({ input, ctx }) => api.purge(input, ctx)),
  });
}

export function createKeypairRouter(api: KeypairAdminApi) {
  const read = procedureFor('keypair:read');
  return router({
    list: read.input(listKeypairsSchema).query(({ input, ctx }) => api.list(input, ctx)),
    get: read.input(keypairRefSchema).query(({ input, ctx }) => api.get(input, ctx)),
    create: procedureFor('keypair:create')
      .input(createKeypairSchema)
      .mutation(({ input, ctx }) => api.create(input, ctx)),
    modify: procedureFor('keypair:modify')
      .input(modifyKeypairSchema)
      .mutation(({ input, ctx }) => api.modify(input, ctx)),
    delete: procedureFor('keypair:delete')
      .input(keypairRefSchema)
      .mutation(({ input, ctx }) => api.delete(input, ctx)),
  });
}
