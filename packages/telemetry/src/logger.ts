import { AppError } from '@backend.ai/core';
import { type DestinationStream, pino } from 'pino';
import { currentRequest } from './request-context.ts';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export interface LoggerOptions {
  /** `manager`, `agent` ... : the field `component` of every record. */
  readonly component: string;
  readonly level?: LogLevel;
  /** Standard output when absent. */
  readonly destination?: DestinationStream;
}

/**
 * Writes JSON lines. Messages are constant, values are fields; `request_id` and `actor` are added by themselves.
 * Fields that carry secrets are masked.
 */
export interface Logger {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
  /** The same logger with fields that every record carries. */
  with(fields: Record<string, unknown>): Logger;
}

const secretFields = ['secretKey', 'secret_key', 'password', 'token', 'privateKey', 'authorization', 'ticket'];

export function createLogger(options: LoggerOptions): Logger {
  const root = pino(
    {
      level: options.level ?? 'info',
      base: { component: options.component },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: secretFields.flatMap((name) => [name, `*.${name}`]), censor: '***' },
      serializers: { error: serializeError },
      mixin: () => {
        const request = currentRequest();
        return { request_id: request?.requestId ?? null, ...(request?.actor ? { actor: request.actor } : {}) };
      },
    },
    ...(options.destination ? [options.destination] : []),
  );
  return wrap(root);
}

function wrap(target: pino.Logger): Logger {
  return {
    debug: (message, fields) => target.debug(fields ?? {}, message),
    info: (message, fields) => target.info(fields ?? {}, message),
    warn: (message, fields) => target.warn(fields ?? {}, message),
    error: (message, fields) => target.error(fields ?? {}, message),
    with: (fields) => wrap(target.child(fields)),
  };
}

function serializeError(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) return thrown;
  return {
    name: thrown.name,
    message: thrown.message,
    ...(thrown instanceof AppError ? { code: thrown.code, detail: thrown.detail, data: thrown.data } : {}),
    stack: thrown.stack,
    ...(thrown.cause === undefined ? {} : { cause: serializeError(thrown.cause) }),
  };
}

const nothing = (): void => {};
export const silentLogger: Logger = {
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  with: () => silentLogger,
};
