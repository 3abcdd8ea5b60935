import { AppError, type ErrorBody, type ErrorCategory, type RequestId, type UserRole } from '@backend.ai/core';
import { initTRPC, TRPCError } from '@trpc/server';
import { type TRPC_ERROR_CODE_KEY, TRPC_ERROR_CODES_BY_KEY } from '@trpc/server/rpc';
import { type Action, actions, scopeOf } from './access.ts';
import { transformer } from './transformer.ts';

/**
 * What every link has in common: the context of a call, who may make it, the error shape.
 *
 * A procedure can only be made with `procedureFor`, which takes its action, so one without cannot be written;
 * `checkAccessLevels` repeats the check on a finished router at start-up.
 */

/** Who may call: anybody, the peer at the other end of an internal link, or users whose role may do the action. */
export type Access = 'open' | 'peer' | Action;

export interface UserActor {
  readonly kind: 'user';
  readonly accessKey: string;
  readonly userId: string;
  readonly email: string;
  readonly role: UserRole;
  readonly domain: string;
  /** Who calls really, when an administrator acts for the owner of this key pair. */
  readonly by?: { readonly userId: string; readonly accessKey: string } | undefined;
}

export const peerKinds = ['manager', 'agent', 'storage-proxy', 'coordinator', 'worker'] as const;
export type PeerKind = (typeof peerKinds)[number];

export interface PeerActor {
  readonly kind: 'peer';
  readonly peerKind: PeerKind;
  /** Agent id, or the name of a manager. */
  readonly peerId: string;
}

export type Actor = UserActor | PeerActor | { readonly kind: 'anonymous' };

/** Travels with every operation as `headers`; over HTTP as header lines. Unknown keys are kept out. */
export interface OperationHeaders {
  readonly request_id?: string | undefined;
  /** Fencing epoch of the manager that decided this (only manager → others). */
  readonly epoch?: number | undefined;
}

export interface CallContext {
  readonly requestId: RequestId;
  readonly actor: Actor;
  readonly headers: OperationHeaders;
  /** Aborts when the caller went away or the deadline passed. */
  readonly signal: AbortSignal | undefined;
}

export interface ProcedureMeta {
  readonly access: Access;
  /** May be sent again after a lost connection without asking first. Queries always may. */
  readonly idempotent?: boolean;
  /** The caller's default deadline for one operation, in milliseconds. */
  readonly deadlineMs?: number;
}

/** Carried in `data.error` of every tRPC error. */
export interface ErrorShapeData {
  readonly error: ErrorBody;
}

/** How stock tRPC clients see our categories; ours read `data.error`. */
const trpcCodes = {
  'fix-input': { name: 'BAD_REQUEST', httpStatus: 400 },
  'log-in': { name: 'UNAUTHORIZED', httpStatus: 401 },
  forbidden: { name: 'FORBIDDEN', httpStatus: 403 },
  'not-found': { name: 'NOT_FOUND', httpStatus: 404 },
  conflict: { name: 'CONFLICT', httpStatus: 409 },
  wait: { name: 'TOO_MANY_REQUESTS', httpStatus: 429 },
  retry: { name: 'SERVICE_UNAVAILABLE', httpStatus: 503 },
  operator: { name: 'INTERNAL_SERVER_ERROR', httpStatus: 500 },
} as const satisfies Record<ErrorCategory, { name: TRPC_ERROR_CODE_KEY; httpStatus: number }>;

const t = initTRPC
  .context<CallContext>()
  .meta<ProcedureMeta>()
  .create({
    transformer,
    isServer: true,
    // Proxies cut connections that are silent for a minute.
    sse: { ping: { enabled: true, intervalMs: 15_000 } },
    errorFormatter: ({ error, ctx }) => {
      const appError = toAppError(error);
      const { name, httpStatus } = trpcCodes[appError.category];
      return {
        message: appError.message,
        code: TRPC_ERROR_CODES_BY_KEY[name],
        data: { code: name, httpStatus, error: appError.toBody(ctx?.requestId) },
      };
    },
  });

/** Validation failures and foreign errors as ours. Nothing of an unexpected error but its code leaves the process. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (!(error instanceof TRPCError)) return AppError.from(error);
  if (error.cause instanceof AppError) return error.cause;
  switch (error.code) {
    case 'BAD_REQUEST':
    case 'PARSE_ERROR':
      return invalidInput(error.cause);
    case 'NOT_FOUND':
      return new AppError('route-not-found', 'This procedure does not exist.');
    case 'METHOD_NOT_SUPPORTED':
      return new AppError('method-not-allowed', 'This procedure is called in another way.');
    case 'PAYLOAD_TOO_LARGE':
      return new AppError('payload-too-large', 'The request is too large.');
    case 'CLIENT_CLOSED_REQUEST':
      return new AppError('cancelled', 'The caller went away.');
    default:
      return AppError.from(error.cause ?? error);
  }
}

interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** A schema failure with one line per field. */
export function invalidInput(cause: unknown): AppError {
  const issues = (cause as { issues?: readonly Issue[] } | undefined)?.issues ?? [];
  const fields = Object.fromEntries(issues.map((issue) => [issue.path.join('.') || '(input)', issue.message]));
  const text = Object.entries(fields).map(([name, message]) => `${name}: ${message}`);
  return new AppError('invalid-input', text.length > 0 ? `Invalid input. ${text.join('; ')}` : 'Invalid input.', {
    data: { fields },
    cause,
  });
}

export const router: typeof t.router = t.router;
export const createCallerFactory: typeof t.createCallerFactory = t.createCallerFactory;

const checked = t.procedure.use(({ ctx, meta, next }) => {
  if (!meta) throw new AppError('internal', 'This procedure does not state who may call it.');
  checkAccess(meta.access, ctx.actor);
  return next();
});

/** The start of every procedure: states who may call it and enforces that. */
export function procedureFor(access: Access, options: Omit<ProcedureMeta, 'access'> = {}) {
  return checked.meta({ access, ...options });
}

/** @throws AppError `auth-missing`, `forbidden`, `peer-rejected` */
export function checkAccess(access: Access, actor: Actor): void {
  if (access === 'open') return;
  if (access === 'peer') {
    if (actor.kind !== 'peer') throw new AppError('peer-rejected', 'This link is for peers of the cluster only.');
    return;
  }
  if (actor.kind !== 'user') throw new AppError('auth-missing', 'This call needs a login.');
  scopeOf(actor, access);
}

interface ProcedureTable {
  readonly _def: { readonly procedures: Readonly<Record<string, unknown>> };
}

/** Every path of a router with what it declares. */
export function procedureMetas(table: ProcedureTable): Map<string, ProcedureMeta & { type: string }> {
  const metas = new Map<string, ProcedureMeta & { type: string }>();
  for (const [path, procedure] of Object.entries(table._def.procedures)) {
    const def = (procedure as { _def: { meta?: Partial<ProcedureMeta>; type: string } })._def;
    if (!def.meta?.access || !isAccess(def.meta.access))
      throw new AppError('config-invalid', `The procedure ${path} does not state who may call it.`);
    metas.set(path, { ...def.meta, access: def.meta.access, type: def.type });
  }
  return metas;
}

function isAccess(text: string): text is Access {
  return text === 'open' || text === 'peer' || Object.hasOwn(actions, text);
}

/** Called by every server at start-up. @throws AppError `config-invalid` */
export function checkAccessLevels(table: ProcedureTable): void {
  procedureMetas(table);
}
