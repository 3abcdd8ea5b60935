import type { LabelledPort } from '@backend.ai/core';
import { z } from 'zod';
import type { Image, ImageWarning } from './image.ts';
import { type CallContext, procedureFor, router } from './link.ts';
import { resourceNameSchema } from './resource-policy.ts';
import { inputLimits, plainText } from './text.ts';

/** What users see of images, and what administrators do with them and with registries. */

const imageRef = z.strictObject({
  /** Canonical name, short name or alias. */
  image: plainText(inputLimits.image).min(1),
  architecture: plainText(inputLimits.architecture).min(1).optional(),
});
export type ImageRef = z.infer<typeof imageRef>;

const aliasName = z
  .string()
  .max(inputLimits.image)
  .regex(/^[a-z0-9][a-z0-9._/:-]*$/, 'takes small letters, digits, ".", "_", "-", "/" and ":"');
const aliasSchema = z.strictObject({ alias: aliasName, ...imageRef.shape });
const dealiasSchema = z.strictObject({
  alias: aliasName,
  /** Absent: of all architectures. */
  architecture: plainText(inputLimits.architecture).min(1).optional(),
});
const rescanSchema = z.strictObject({
  /** Absent: all that are active. */
  registry: plainText(inputLimits.name).min(1).optional(),
});
const purgeSchema = imageRef.extend({
  /** Absent: of all agents that have it. */
  agents: z.array(plainText(inputLimits.name)).max(1_000).optional(),
  /** Also where stopped containers were made of it. */
  forced: z.boolean().default(false),
  /** Its manifest at the registry goes, too: with it all tags that mean the same image. */
  removeFromRegistry: z.boolean().default(false),
});
const preloadSchema = imageRef.extend({ agents: z.array(plainText(inputLimits.name)).max(1_000).optional() });

export type AliasImageInput = z.infer<typeof aliasSchema>;
export type DealiasImageInput = z.infer<typeof dealiasSchema>;
export type RescanInput = z.infer<typeof rescanSchema>;
export type PurgeImageInput = z.infer<typeof purgeSchema>;
export type PreloadImageInput = z.infer<typeof preloadSchema>;

/** An image, with where it is. */
export interface ImageView extends Image {
  /** Name of the registry that has it; null: only agents do. */
  readonly registry: string | null;
  /** Compressed, as registries have it; null: not known. */
  readonly sizeBytes: number | null;
  /** Ids of agents that need not fetch it. */
  readonly installedAgents: readonly string[];
  /** What is wrong with its labels. */
  readonly warnings: readonly ImageWarning[];
  /** Id of the user who made it of a session; null: it is for everybody. */
  readonly ownerId: string | null;
}

export interface ImageDetails extends ImageView {
  readonly manifestDigest: string | null;
  readonly servicePorts: readonly LabelledPort[];
  /** Those that begin with `ai.backend.`. */
  readonly labels: Readonly<Record<string, string>>;
  /** ISO 8601; null: no registry has it. */
  readonly scannedAt: string | null;
}

/** A rescan of one registry that was begun, or that somebody had begun already. */
export interface ScanStarted {
  readonly registry: string;
  readonly taskId: string;
}

/** The result of a rescan: of task kind `rescan`. */
export interface ScanReport {
  readonly registry: string;
  /** Images that it has, one for each name and architecture. */
  readonly images: number;
  /** New ones and such with another digest. */
  readonly changed: number;
  readonly removed: number;
  /** With warnings on their labels. */
  readonly warned: number;
  /** What could not be read; the rest was. The first hundred. */
  readonly failures: ReadonlyArray<{ readonly image: string; readonly code: string; readonly message: string }>;
  readonly failed: number;
}

/** What became of an image at each agent. */
export interface PurgeReport {
  readonly image: string;
  readonly architecture: string;
  readonly agents: ReadonlyArray<{
    readonly agent: string;
    readonly outcome: 'removed' | 'absent' | 'failed';
    readonly message: string | null;
  }>;
  readonly removedFromRegistry: boolean;
}

export interface ImageApi {
  /** Of customized images, those of the actor; all of them for superadmins. */
  list(ctx: CallContext): Promise<ImageView[]>;
  /** @throws AppError `unknown-image` */
  get(input: ImageRef, ctx: CallContext): Promise<ImageDetails>;
  /** Removes a customized image from everywhere. @throws AppError `unknown-image`, `forbidden` for any other image */
  delete(input: ImageRef, ctx: CallContext): Promise<PurgeReport>;
}

export interface ImageAdminApi {
  /** Begins, and returns tasks to watch. @throws AppError `object-not-found` */
  rescan(input: RescanInput, ctx: CallContext): Promise<ScanStarted[]>;
  /** @throws AppError `object-exists` when the alias means another image of the architecture */
  alias(input: AliasImageInput, ctx: CallContext): Promise<{ alias: string; image: string; architecture: string }>;
  /** @throws AppError `object-not-found` */
  dealias(input: DealiasImageInput, ctx: CallContext): Promise<void>;
  /** It is offered no more, until a rescan finds it again. */
  forget(input: ImageRef, ctx: CallContext): Promise<{ image: string; architecture: string }>;
  /** Forgets it and removes it from agents. */
  purge(input: PurgeImageInput, ctx: CallContext): Promise<PurgeReport>;
  /** Lets agents fetch it before anybody needs it; returns a task to watch. */
  preload(input: PreloadImageInput, ctx: CallContext): Promise<{ taskId: string; agents: string[] }>;
}

export function createImageRouter(images: ImageApi) {
  const read = procedureFor('image:read');
  return router({
    list: read.query(({ ctx }) => images.list(ctx)),
    get: read.input(imageRef).query(({ input, ctx }) => images.get(input, ctx)),
    delete: procedureFor('image:delete')
      .input(imageRef)
      .mutation(({ input, ctx }) => images.delete(input, ctx)),
  });
}

export function createImageAdminRouter(images: ImageAdminApi) {
  const modify = procedureFor('image:modify');
  return router({
    rescan: modify.input(rescanSchema).mutation(({ input, ctx }) => images.rescan(input, ctx)),
    alias: modify.input(aliasSchema).mutation(({ input, ctx }) => images.alias(input, ctx)),
    dealias: modify.input(dealiasSchema).mutation(({ input, ctx }) => images.dealias(input, ctx)),
    forget: modify.input(imageRef).mutation(({ input, ctx }) => images.forget(input, ctx)),
    purge: modify.input(purgeSchema).mutation(({ input, ctx }) => images.purge(input, ctx)),
    preload: modify.input(preloadSchema).mutation(({ input, ctx }) => images.preload(input, ctx)),
  });
}

// Registries

const registryUrl = z
  .url({ protocol: /^https?$/ })
  .max(inputLimits.address)
  .refine((text) => {
    const { username, password, search, hash, pathname } = new URL(text);
    return `${username}${password}${search}${hash}` === '' && pathname === '/';
  }, 'must be a scheme, a host and a port only, as in https://registry.example:5000');
const credential = plainText(inputLimits.credential).min(1);
const repositories = z
  .array(
    z
      .string()
      .max(255)
      .regex(/^[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$/),
  )
  .max(1_000);

const registryFields = {
  url: registryUrl,
  username: credential.nullable(),
  /** Stored under the installation key and told to agents that fetch; never shown again. */
  password: credential.nullable(),
  /** Look only into these and what is below them; empty: into everything that its catalogue lists. */
  repositories,
  isActive: z.boolean(),
};
export const createRegistrySchema = z.strictObject({
  name: resourceNameSchema,
  ...registryFields,
  username: registryFields.username.default(null),
  password: registryFields.password.default(null),
  repositories: repositories.default([]),
  isActive: registryFields.isActive.default(true),
});
export const modifyRegistrySchema = z.strictObject(registryFields).partial().extend({ name: resourceNameSchema });
const byName = z.strictObject({ name: resourceNameSchema });

export type CreateRegistryInput = z.infer<typeof createRegistrySchema>;
export type ModifyRegistryInput = z.infer<typeof modifyRegistrySchema>;

export interface RegistryView {
  readonly name: string;
  readonly url: string;
  readonly username: string | null;
  readonly hasPassword: boolean;
  readonly repositories: readonly string[];
  readonly isActive: boolean;
  /** Of the last rescan that came to its end; null: there was none. */
  readonly scannedAt: string | null;
  readonly lastScan: ScanReport | null;
  /** Images known of it. */
  readonly images: number;
}

export interface RegistryAdminApi {
  list(ctx: CallContext): Promise<RegistryView[]>;
  get(input: { name: string }, ctx: CallContext): Promise<RegistryView>;
  create(input: CreateRegistryInput, ctx: CallContext): Promise<RegistryView>;
  modify(input: ModifyRegistryInput, ctx: CallContext): Promise<RegistryView>;
  /** Its images go with it. */
  delete(input: { name: string }, ctx: CallContext): Promise<void>;
}

export function createRegistryRouter(registries: RegistryAdminApi) {
  const read = procedureFor('registry:read');
  const modify = procedureFor('registry:modify');
  return router({
    list: read.query(({ ctx }) => registries.list(ctx)),
    get: read.input(byName).query(({ input, ctx }) => registries.get(input, ctx)),
    create: modify.input(createRegistrySchema).mutation(({ input, ctx }) => registries.create(input, ctx)),
    modify: modify.input(modifyRegistrySchema).mutation(({ input, ctx }) => registries.modify(input, ctx)),
    delete: modify.input(byName).mutation(({ input, ctx }) => registries.delete(input, ctx)),
  });
}
