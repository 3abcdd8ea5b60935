import { z } from 'zod';
import { type CallContext, procedureFor, router } from './link.ts';
import type { CreateSessionRequest } from './session.ts';
import { inputLimits, plainText } from './text.ts';

/** What sessions are made of again and again: stored descriptions, in the form of the original, of one user. */

/** Characters of a payload. */
const maxPayload = 1024 * 1024;

/** An id, or a name. */
export const templateRefSchema = z.strictObject({ template: plainText(inputLimits.image).min(1) });
/** JSON or YAML: one template, a list of them, or `{ "session_templates": [{ "template": … }] }`. */
const payloadSchema = plainText(maxPayload).min(1);
export const createTemplatesSchema = z.strictObject({
  payload: payloadSchema,
  project: plainText(inputLimits.name).default('default'),
  domain: plainText(inputLimits.name).default('default'),
});
export const modifyTemplateSchema = templateRefSchema.extend({ payload: payloadSchema });

export interface SessionTemplateView {
  readonly id: string;
  readonly name: string;
  readonly userId: string;
  readonly domain: string;
  readonly project: string;
  readonly createdAt: string;
  /** In the form of the original: `api_version`, `kind`, `metadata`, `spec`. */
  readonly template: Record<string, unknown>;
  /** What a session is created with. */
  readonly session: CreateSessionRequest;
}

/** Of the actor. */
export interface SessionTemplateApi {
  /** Newest first. */
  list(ctx: CallContext): Promise<SessionTemplateView[]>;
  /** @throws AppError `object-not-found`, `too-many-matches` */
  get(input: { template: string }, ctx: CallContext): Promise<SessionTemplateView>;
  /** All or none; a user's names are unique. @throws AppError `object-exists`, `invalid-input` naming fields, `unsupported-feature` */
  create(input: z.infer<typeof createTemplatesSchema>, ctx: CallContext): Promise<SessionTemplateView[]>;
  /** @throws AppError `object-not-found`, `too-many-matches`, `object-exists`, `invalid-input`, `unsupported-feature` */
  modify(input: z.infer<typeof modifyTemplateSchema>, ctx: CallContext): Promise<SessionTemplateView>;
  /** Sessions made of it stay. @throws AppError `object-not-found`, `too-many-matches` */
  delete(input: { template: string }, ctx: CallContext): Promise<void>;
}

export function createSessionTemplateRouter(templates: SessionTemplateApi) {
  const read = procedureFor('session-template:read');
  const modify = procedureFor('session-template:modify');
  return router({
    list: read.query(({ ctx }) => templates.list(ctx)),
    get: read.input(templateRefSchema).query(({ input, ctx }) => templates.get(input, ctx)),
    create: modify.input(createTemplatesSchema).mutation(({ input, ctx }) => templates.create(input, ctx)),
    modify: modify.input(modifyTemplateSchema).mutation(({ input, ctx }) => templates.modify(input, ctx)),
    delete: modify.input(templateRefSchema).mutation(({ input, ctx }) => templates.delete(input, ctx)),
  });
}
