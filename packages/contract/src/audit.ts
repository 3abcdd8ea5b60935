import { z } from 'zod';
import { type CallContext, procedureFor, router } from './link.ts';
import type { Page } from './tenancy.ts';
import { plainText } from './text.ts';

const ref = plainText(256).min(1);

/** Entries that match all that is given, newest first. */
export const listAuditSchema = z.strictObject({
  /** E-mail address of who called; `operator` for what operators did with `mgr`. */
  user: ref.optional(),
  /** Such as `user:modify`. */
  action: ref.optional(),
  /** Such as `user`. */
  targetKind: ref.optional(),
  targetId: ref.optional(),
  requestId: ref.optional(),
  limit: z.number().int().min(1).max(1_000).default(100),
  offset: z.number().int().min(0).max(1_000_000_000).default(0),
});

/** Who changed what, or tried to. */
export interface AuditView {
  readonly id: string;
  readonly at: string;
  readonly requestId: string;
  readonly userId: string;
  /** `operator` for operators, who are no users; null: that user has been purged. */
  readonly email: string | null;
  readonly accessKey: string;
  /** The access key in whose name it was done, when that is another one. */
  readonly actingFor: string | null;
  readonly action: string;
  readonly target: { readonly kind: string; readonly id: string; readonly domain: string | null };
  readonly outcome: 'done' | 'failed';
  readonly errorCode: string | null;
  /** What was asked for, without secrets. */
  readonly changes: Record<string, unknown>;
}

export interface AuditApi {
  list(input: z.output<typeof listAuditSchema>, ctx: CallContext): Promise<Page<AuditView>>;
}

export function createAuditRouter(api: AuditApi) {
  return router({
    list: procedureFor('audit:read')
      .input(listAuditSchema)
      .query(({ input, ctx }) => api.list(input, ctx)),
  });
}
