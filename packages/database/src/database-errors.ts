/** SQLSTATE codes that callers decide on. */
export const sqlStates = {
  foreignKeyViolation: '23503',
  uniqueViolation: '23505',
  checkViolation: '23514',
  invalidAuthorization: '28000',
  invalidPassword: '28P01',
  missingDatabase: '3D000',
  serializationFailure: '40001',
  deadlockDetected: '40P01',
  duplicateDatabase: '42P04',
  tooManyConnections: '53300',
  statementTimeout: '57014',
  adminShutdown: '57P01',
  crashShutdown: '57P02',
  cannotConnectNow: '57P03',
} as const;

interface ServerError extends Error {
  readonly code: string;
  readonly constraint_name?: string;
  detail?: string;
  where?: string;
}

/** PostgreSQL's own error in a chain of causes (drizzle wraps what the driver throws). */
function serverErrorIn(thrown: unknown): ServerError | undefined {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (error.name === 'PostgresError') return error as ServerError;
  }
  return undefined;
}

/** The SQLSTATE of a failed statement, or undefined when something else failed. */
export function sqlStateOf(thrown: unknown): string | undefined {
  return serverErrorIn(thrown)?.code;
}

/** Whether a statement or transaction lost against another one: a deadlock, or a row that changed after its snapshot. */
export function lostToAnother(thrown: unknown): boolean {
  const state = sqlStateOf(thrown);
  return state === sqlStates.serializationFailure || state === sqlStates.deadlockDetected;
}

/** Data that a type does not take: the only errors whose messages, and not only their details, quote it. */
const dataException = '22';

/**
 * The same error without what the statement was about: errors reach logs, and values are secrets of users. Which
 * statement failed, why, and at which constraint stays.
 */
export function withoutValues<T>(thrown: T): T {
  const error = serverErrorIn(thrown);
  if (!error) return thrown;
  delete error.detail;
  delete error.where;
  if (error.code.startsWith(dataException)) {
    const { message, stack = '' } = error;
    error.message = message.replace(/".*"/s, '"…"');
    Object.defineProperty(error, 'stack', { value: stack.replace(message, () => error.message) });
  }
  return thrown;
}

/** Whether a row was refused because another one has its key; `constraint` narrows to one key or unique index. */
export function isUniqueViolation(thrown: unknown, constraint?: string): boolean {
  const error = serverErrorIn(thrown);
  return (
    error?.code === sqlStates.uniqueViolation && (constraint === undefined || error.constraint_name === constraint)
  );
}
