import { z } from 'zod';
import { type CallContext, procedureFor, router } from './link.ts';
import { bootstrapScriptSchema } from './session.ts';
import { projectRefSchema } from './tenancy.ts';
import { inputLimits, plainText } from './text.ts';

/**
 * What sessions find in their home folder, and what runs in them first, whenever they start. Files belong to a key pair,
 * a project or a domain: a session has those of its own three, and where they are in each other's way that of the first.
 */

/** Of one owner. Bytes are those of UTF-8, of all its files together. */
export const dotfileLimits = { files: 100, bytes: 64 * 1024 } as const;

/** Others put something there. */
export const reservedDotfiles: readonly string[] = [
  '.terminfo',
  '.jupyter',
  '.ssh',
  '.ssh/authorized_keys',
  '.local',
  '.config',
];

export const dotfilePathSchema = plainText(inputLimits.name * 4)
  .min(1)
  .refine(
    (path) => path.split('/').every((part) => part !== '' && part !== '.' && part !== '..'),
    'must be a path below the home folder, such as .vimrc',
  )
  .refine((path) => !reservedDotfiles.includes(path), 'is reserved');

const contentSchema = plainText(dotfileLimits.bytes).refine(
  (content) => new TextEncoder().encode(content).length <= dotfileLimits.bytes,
  `must have at most ${dotfileLimits.bytes} bytes`,
);

/** From the weakest. */
export const dotfileOwnerKinds = ['domain', 'project', 'keypair'] as const;
export type DotfileOwnerKind = (typeof dotfileOwnerKinds)[number];
export const dotfileOwnerSchema = z.union([
  z.strictObject({ domain: plainText(inputLimits.name).min(1) }),
  /** By id, or by name in a domain. */
  projectRefSchema,
]);
export type DotfileOwner = z.infer<typeof dotfileOwnerSchema>;

/** Absent: the actor's key pair. */
const owned = { owner: dotfileOwnerSchema.optional() };
export const listDotfilesSchema = z.strictObject(owned);
export const dotfileRefSchema = z.strictObject({ ...owned, path: dotfilePathSchema });
export const writeDotfileSchema = z.strictObject({
  ...owned,
  path: dotfilePathSchema,
  /** Octal digits. */
  permission: z.string().regex(/^[0-7]{3}$/, 'must be three octal digits, such as 644'),
  content: contentSchema,
});
export const setBootstrapScriptSchema = z.strictObject({
  /** Empty: there is none. */
  script: bootstrapScriptSchema,
});

export type ListDotfilesInput = z.infer<typeof listDotfilesSchema>;
export type DotfileRef = z.infer<typeof dotfileRefSchema>;
export type WriteDotfileInput = z.infer<typeof writeDotfileSchema>;

export interface DotfileView {
  /** Relative to the home folder. */
  readonly path: string;
  readonly permission: string;
  readonly content: string;
}

/** Whose owner may not be seen is `object-not-found`; what may only be seen is `forbidden` to change. */
export interface DotfileApi {
  list(input: ListDotfilesInput, ctx: CallContext): Promise<DotfileView[]>;
  /** @throws AppError `object-not-found` */
  get(input: DotfileRef, ctx: CallContext): Promise<DotfileView>;
  /** @throws AppError `object-exists`, `invalid-input` when there are too many, or they have too many bytes together */
  create(input: WriteDotfileInput, ctx: CallContext): Promise<void>;
  /** @throws AppError `object-not-found`, `invalid-input` */
  modify(input: WriteDotfileInput, ctx: CallContext): Promise<void>;
  /** @throws AppError `object-not-found` */
  delete(input: DotfileRef, ctx: CallContext): Promise<void>;
  /** Of the actor's key pair, for sessions that name none; empty when there is none. */
  bootstrapScript(ctx: CallContext): Promise<{ script: string }>;
  setBootstrapScript(input: { script: string }, ctx: CallContext): Promise<void>;
}

export function createDotfileRouter(dotfiles: DotfileApi) {
  const read = procedureFor('dotfile:read');
  const modify = procedureFor('dotfile:modify');
  return router({
    list: read.input(listDotfilesSchema.default({})).query(({ input, ctx }) => dotfiles.list(input, ctx)),
    get: read.input(dotfileRefSchema).query(({ input, ctx }) => dotfiles.get(input, ctx)),
    create: modify.input(writeDotfileSchema).mutation(({ input, ctx }) => dotfiles.create(input, ctx)),
    modify: modify.input(writeDotfileSchema).mutation(({ input, ctx }) => dotfiles.modify(input, ctx)),
    delete: modify.input(dotfileRefSchema).mutation(({ input, ctx }) => dotfiles.delete(input, ctx)),
    bootstrapScript: read.query(({ ctx }) => dotfiles.bootstrapScript(ctx)),
    setBootstrapScript: modify
      .input(setBootstrapScriptSchema)
      .mutation(({ input, ctx }) => dotfiles.setBootstrapScript(input, ctx)),
  });
}
