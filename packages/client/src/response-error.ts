import { AppError, type ErrorBody, type ErrorCode, errorCodes, isErrorBody } from '@backend.ai/core';

/** Every failure a caller of the SDK can meet, as an AppError. */

/** The last part of the `type` of a problem+json answer. */
const problemCodes: Readonly<Record<string, ErrorCode>> = {
  'invalid-api-params': 'invalid-input',
  'invalid-auth-params': 'auth-malformed',
  'auth-failed': 'auth-bad-signature',
  'generic-forbidden': 'forbidden',
  'insufficient-privilege': 'forbidden',
  'object-not-found': 'object-not-found',
  'url-not-found': 'route-not-found',
  'too-many-sessions-matched': 'too-many-matches',
  'session-already-exists': 'session-exists',
  'rate-limit-exceeded': 'rate-limited',
  'method-not-allowed': 'method-not-allowed',
  'service-unavailable': 'shutting-down',
};

function codeOfStatus(status: number): ErrorCode {
  if (status === 400) return 'invalid-input';
  if (status === 401) return 'auth-bad-signature';
  if (status === 403) return 'forbidden';
  if (status === 404) return 'object-not-found';
  if (status === 409) return 'state-conflict';
  if (status === 413) return 'payload-too-large';
  if (status === 429) return 'rate-limited';
  if (status >= 502 && status <= 504) return 'server-unreachable';
  return 'internal';
}

/** An answer that is not a success, whatever its form: our body, a tRPC error, problem+json, or a proxy's page. */
export function errorOfResponse(status: number, text: string, requestId: string): AppError {
  const body = parseObject(text);
  const known = findBody(body);
  if (known) return AppError.fromBody({ ...known, requestId: known.requestId ?? requestId });
  const data =
    typeof body?.data === 'object' && body.data !== null ? (body.data as Record<string, unknown>) : undefined;
  const slug = typeof body?.type === 'string' ? (body.type.split('/').at(-1) ?? '') : '';
  const named = String(body?.error_code);
  const code = named in errorCodes ? (named as ErrorCode) : (problemCodes[slug] ?? codeOfStatus(status));
  const hint = firstText(body?.hint);
  const message = firstText(body?.msg, body?.title) ?? `The server answered with status ${status}.`;
  const options = { data, hint, requestId: firstText(body?.request_id) ?? requestId, detail: text.slice(0, 2000) };
  return new AppError(code, message, options);
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** Ours stands at the top, under `error` (REST), or in the `data` of a tRPC error, with or without an envelope. */
function findBody(value: unknown, depth = 0): ErrorBody | undefined {
  if (isErrorBody(value)) return value;
  if (typeof value !== 'object' || value === null || depth > 4) return undefined;
  const node = value as Record<string, unknown>;
  for (const key of ['error', 'json', 'data']) {
    const found = findBody(node[key], depth + 1);
    if (found) return found;
  }
  return undefined;
}

function firstText(...values: unknown[]): string | undefined {
  return values.find((value): value is string => typeof value === 'string' && value !== '');
}

/** Never reached a listener: nothing was done there. */
const refusals = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
  'ERR_INVALID_URL',
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** What `fetch` throws instead of answering. */
export function errorOfConnection(
  thrown: unknown,
  request: { origin: string; requestId: string; signal?: AbortSignal },
): AppError {
  if (thrown instanceof AppError) return thrown;
  const { requestId, origin } = request;
  if (request.signal?.aborted)
    return new AppError('cancelled', 'The request was cancelled.', { cause: thrown, requestId });
  const code = codeOf(thrown);
  if (code !== undefined && refusals.has(code)) {
    return new AppError('server-unreachable', `Nothing answers at ${origin}.`, { cause: thrown, requestId });
  }
  return new AppError('connection-lost', `The connection to ${origin} was lost.`, { cause: thrown, requestId });
}

/** `fetch` hides the code in the cause, and several tried addresses in an AggregateError. */
function codeOf(thrown: unknown, depth = 0): string | undefined {
  if (typeof thrown !== 'object' || thrown === null || depth > 4) return undefined;
  const node = thrown as { code?: unknown; cause?: unknown; errors?: unknown[] };
  if (typeof node.code === 'string') return node.code;
  return codeOf(node.cause, depth + 1) ?? codeOf(node.errors?.[0], depth + 1);
}
