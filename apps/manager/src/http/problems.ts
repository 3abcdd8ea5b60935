import { AppError, type ErrorCode, errorCodes } from '@backend.ai/core';

/**
 * The one translation from our error codes to what REST callers read: RFC 7807 bodies whose `type` ends in a slug that
 * the official clients decide by. `error_code`, `hint` and `request_id` are ours.
 */
interface Problem {
  readonly status: number;
  readonly slug: string;
  readonly title: string;
  /** Stands in `msg` whatever the error says: clients compare it. */
  readonly msg?: string;
}

const problem = (status: number, slug: string, title: string, msg?: string): Problem => ({
  status,
  slug,
  title,
  ...(msg === undefined ? {} : { msg }),
});

const badRequest = problem(400, 'generic-bad-request', 'Bad request.');
const badParams = problem(400, 'invalid-api-params', 'Missing or invalid API parameters.');
const unauthorized = (msg: string): Problem => problem(401, 'auth-failed', 'Credential/signature mismatch.', msg);
const badAuth = (msg?: string): Problem =>
  problem(400, 'invalid-auth-params', 'Missing or invalid authorization parameters.', msg);
const noSuch = (object: string): Problem => problem(404, 'object-not-found', `No such ${object}.`);
const unavailable = problem(503, 'service-unavailable', 'Service unavailable.');
const misconfigured = problem(500, 'server-misconfigured', 'Service misconfigured.');
const executionFailed = problem(500, 'kernel-execution-failed', 'Executing user code in the kernel has failed.');
const creationFailed = problem(500, 'kernel-creation-failed', 'Kernel creation has failed.');

const problems: Readonly<Record<ErrorCode, Problem>> = {
  'invalid-input': badParams,
  'malformed-body': { ...badParams, msg: 'Malformed body' },
  'invalid-session-name': badParams,
  'invalid-path': badParams,
  'unknown-image': noSuch('environment image'),
  'unknown-slot': badParams,
  'insufficient-capacity': badParams,
  'unsupported-feature': badRequest,
  'callback-forbidden': badParams,
  'payload-too-large': { ...badRequest, status: 413 },
  'auth-missing': unauthorized('Unauthorized access'),
  'auth-malformed': badAuth(),
  'auth-clock-skew': badAuth('Date/time sync error'),
  'auth-unknown-key': unauthorized('Access key not found'),
  'auth-bad-signature': unauthorized('Signature mismatch'),
  'peer-rejected': unauthorized('Unauthorized access'),
  // The official server answers 401, not 403, to too little privilege.
  forbidden: unauthorized('Unauthorized access'),
  'impersonation-forbidden': problem(403, 'generic-forbidden', 'Forbidden operation.'),
  'session-not-found': noSuch('session'),
  'kernel-not-found': noSuch('main kernel'),
  'run-not-found': noSuch('run'),
  'file-not-found': noSuch('file'),
  'object-not-found': noSuch('object'),
  'route-not-found': problem(404, 'url-not-found', 'Unknown URL path.'),
  'method-not-allowed': problem(405, 'method-not-allowed', 'HTTP Method Not Allowed.'),
  'too-many-matches': problem(404, 'too-many-sessions-matched', 'Too many sessions matched.'),
  'object-exists': { ...badRequest, status: 409 },
  'has-sessions': { ...badRequest, status: 409 },
  'has-dependents': { ...badRequest, status: 409 },
  'last-superadmin': { ...badRequest, status: 409 },
  'session-exists': problem(
    400,
    'session-already-exists',
    'The session already exists but you requested not to reuse existing one.',
  ),
  'session-not-running': badRequest,
  'session-paused': badRequest,
  'quota-exceeded': problem(412, 'quota-exceeded', 'You have reached your resource limit.'),
  'kernel-busy': { ...badRequest, status: 409 },
  // As the official server refuses to destroy a session in a state that does not allow it.
  'state-conflict': problem(403, 'generic-forbidden', 'Forbidden operation.'),
  'stale-epoch': unavailable,
  'session-failed': creationFailed,
  'service-failed': problem(500, 'internal-server-error', 'The service could not be started.'),
  'wait-timeout': unavailable,
  'execution-timeout': executionFailed,
  'program-failed': executionFailed,
  'program-killed': executionFailed,
  'out-of-memory': executionFailed,
  'process-limit-reached': executionFailed,
  'output-limit-exceeded': executionFailed,
  'disk-full': { ...executionFailed, status: 507 },
  'kernel-lost': executionFailed,
  'kernel-start-failed': creationFailed,
  'image-not-found': noSuch('environment image'),
  'image-pull-denied': creationFailed,
  'image-pull-failed': creationFailed,
  'image-commit-failed': executionFailed,
  'image-in-use': { ...badRequest, status: 409 },
  'registry-denied': misconfigured,
  'registry-unreachable': unavailable,
  'registry-answer-invalid': misconfigured,
  'rate-limited': problem(429, 'rate-limit-exceeded', 'You have reached your API query rate limit.'),
  'no-agent': problem(503, 'instance-not-available', 'There is no available instance.'),
  'agent-unreachable': unavailable,
  'connection-lost': unavailable,
  'deadline-exceeded': unavailable,
  cancelled: unavailable,
  'shutting-down': unavailable,
  'server-unreachable': unavailable,
  'isolation-unavailable': misconfigured,
  'engine-unavailable': executionFailed,
  'engine-failed': executionFailed,
  'port-in-use': misconfigured,
  'data-directory-locked': misconfigured,
  'config-invalid': misconfigured,
  'not-implemented': problem(503, 'not-implemented', 'This API is not implemented.'),
  internal: problem(500, 'internal-server-error', 'Internal server error.'),
};

export interface ProblemBody {
  readonly type: string;
  readonly title: string;
  readonly msg: string;
  readonly data?: unknown;
  readonly 'agent-details'?: { readonly type: string; readonly title: string; readonly exception: string };
  readonly error_code: ErrorCode;
  readonly hint: string;
  readonly request_id: string;
}

const typeOf = (slug: string): string => `https://api.backend.ai/probs/${slug}`;

export function problemStatus(code: ErrorCode): number {
  return problems[code].status;
}

/** The public form of an error and its HTTP status. Causes and details stay here. */
export function toProblem(error: AppError, requestId: string): { status: number; body: ProblemBody } {
  const entry = problems[error.code];
  const data = problemData(error);
  return {
    status: entry.status,
    body: {
      type: typeOf(entry.slug),
      title: entry.title,
      msg: entry.msg ?? (error.code === 'invalid-input' && fieldsOf(error) ? 'Input validation error' : error.message),
      ...(data === undefined ? {} : { data }),
      ...(entry.slug.startsWith('kernel-') ? { 'agent-details': agentDetails(error) } : {}),
      error_code: error.code,
      hint: error.hint,
      request_id: error.requestId ?? requestId,
    },
  };
}

/** In the form that clients read for this code. For two slugs they crash without it. */
function problemData(error: AppError): unknown {
  switch (error.code) {
    case 'session-exists':
      return { ...error.data, existingSessionId: error.data?.existingSessionId ?? error.data?.sessionId ?? null };
    case 'too-many-matches':
      return { ...error.data, matches: error.data?.matches ?? [] };
    case 'route-not-found':
      return error.data?.path ?? error.data;
    default:
      return withFieldsOutside(error);
  }
}

/** Field → text, whatever the code: the official client prints `data` as that. */
function withFieldsOutside(error: AppError): unknown {
  const fields = fieldsOf(error);
  if (!fields) return error.data;
  const { fields: _, ...others } = error.data ?? {};
  return { ...others, ...fields };
}

function fieldsOf(error: AppError): Record<string, unknown> | undefined {
  const fields = error.data?.fields;
  return typeof fields === 'object' && fields !== null && Object.keys(fields).length > 0
    ? (fields as Record<string, unknown>)
    : undefined;
}

function agentDetails(error: AppError): ProblemBody['agent-details'] {
  const late = error.code === 'execution-timeout';
  return {
    type: typeOf(late ? 'agent-timeout' : 'agent-failure'),
    title: late ? 'The agent gave up waiting.' : 'The agent reports a failure.',
    exception: error.message,
  };
}

/** Anything thrown below a route, as ours: Fastify's own errors are about the request, others are defects. */
export function asAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown;
  const { code, statusCode } = (thrown ?? {}) as { code?: unknown; statusCode?: unknown };
  const name = typeof code === 'string' ? code : '';
  if (name === 'FST_ERR_CTP_BODY_TOO_LARGE')
    return new AppError('payload-too-large', 'The body is too large.', { cause: thrown });
  if (name === 'FST_ERR_BAD_URL' || name === 'FST_ERR_MAX_PARAM_LENGTH')
    return new AppError('invalid-input', 'The URL is not valid.', { cause: thrown });
  const fromFastify = name.startsWith('FST_') && typeof statusCode === 'number' && statusCode < 500;
  // A body that ends early: the status is what Fastify's reader puts on the error of the socket.
  if (fromFastify || (name === 'ECONNRESET' && statusCode === 400))
    return new AppError('malformed-body', 'The body cannot be read.', { cause: thrown });
  return AppError.from(thrown);
}

export function isDefect(error: AppError): boolean {
  return problems[error.code].status >= 500 && errorCodes[error.code].category === 'operator';
}
