import { AppError, hasCode } from '@backend.ai/core';
import { sqlStates } from './database-errors.ts';

/** No connection came to be: the statement was not carried out. */
const unreachable: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'CONNECT_TIMEOUT',
  'NOT_POSTGRES',
  sqlStates.tooManyConnections,
  sqlStates.adminShutdown,
  sqlStates.crashShutdown,
  sqlStates.cannotConnectNow,
]);
/** It broke: the statement may have been carried out. */
const broken: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'CONNECTION_CLOSED', 'CONNECTION_DESTROYED']);

/** What the driver throws when the connection, and not the statement, is at fault; undefined otherwise. */
export function connectionFailure(cause: unknown): AppError | undefined {
  const code = String((cause as { code?: unknown } | undefined)?.code);
  if (unreachable.has(code)) {
    return new AppError('server-unreachable', 'The database cannot be reached.', {
      hint: 'Try again in a moment; the connection is made again by itself.',
      cause,
    });
  }
  if (broken.has(code)) return new AppError('connection-lost', 'The connection to the database broke.', { cause });
  if (code === 'CONNECTION_ENDED') return new AppError('shutting-down', 'The database is closed.', { cause });
  if (code === sqlStates.statementTimeout) {
    return new AppError('deadline-exceeded', 'A database statement was not answered in time.', { cause });
  }
  return undefined;
}

/** Whether the database is away, or did not answer: what comes next fails in the same way. */
export function isOutage(thrown: unknown): boolean {
  return hasCode(AppError.from(thrown), 'server-unreachable', 'connection-lost', 'shutting-down', 'deadline-exceeded');
}
