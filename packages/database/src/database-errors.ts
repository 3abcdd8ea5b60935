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

interface ServerError {
  readonly code: string;
  readonly constraint_name?: string;
}

/** PostgreSQL's own error in a chain of causes (drizzle wraps what the driver throws). */
function serverErrorIn(thrown: unknown): ServerError | undefined {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (error.name === 'PostgresError') return error as unknown as ServerError;
  }
  return undefined;
}

/** The SQLSTATE of a failed statement, or undefined when something else failed. */
export function sqlStateOf(thrown: unknown): string | undefined {
  return serverErrorIn(thrown)?.code;
}

/** Whether a row was refused because another one has its key; `constraint` narrows to one key or unique index. */
export function isUniqueViolation(thrown: unknown, constraint?: string): boolean {
  const error = serverErrorIn(thrown);
  return (
    error?.code === sqlStates.uniqueViolation && (constraint === undefined || error.constraint_name === constraint)
  );
}
