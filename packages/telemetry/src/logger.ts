import { AppError, maskUrls } from '@backend.ai/core';
import { type DestinationStream, pino } from 'pino';
import { currentRequest } from './request-context.ts';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export interface LoggerOptions {
  /** `manager`, `agent` ... : the field `component` of every record. */
  readonly component: string;
  readonly level?: LogLevel;
  /** Other levels for single modules: `{ rpc: 'debug' }` for what is logged by `logger.with({ module: 'rpc' })`. */
  readonly levels?: Readonly<Record<string, LogLevel | undefined>>;
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
  /** The same logger with fields that every record carries. A `module` may have a level of its own. */
  with(fields: Record<string, unknown>): Logger;
}

const secretFields = new Set(['secretKey', 'secret_key', 'password', 'token', 'privateKey', 'authorization', 'ticket']);

export function createLogger(options: LoggerOptions): Logger {
  const root = pino(
    {
      level: options.level ?? 'info',
      base: { component: options.component },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      mixin: () => {
        const request = currentRequest();
        return { request_id: request?.requestId ?? null, ...(request?.actor ? { actor: request.actor } : {}) };
      },
    },
    ...(options.destination ? [options.destination] : []),
  );
  return wrap(root, options.levels ?? {});
}

function wrap(target: pino.Logger, levels: Readonly<Record<string, LogLevel | undefined>>): Logger {
  const write = (level: 'debug' | 'info' | 'warn' | 'error') => (message: string, fields?: Record<string, unknown>) => {
    if (target.isLevelEnabled(level)) target[level](fields ? writable(fields) : {}, message);
  };
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    with: (fields) => {
      const { module } = fields;
      const level = typeof module === 'string' && Object.hasOwn(levels, module) ? levels[module] : undefined;
      const bound = writable(fields) as Record<string, unknown>;
      return wrap(target.child(bound, level === undefined ? {} : { level }), levels);
    },
  };
}

const maxDepth = 8;

/** A copy with errors as plain objects and secrets masked at any depth: the redaction of pino knows fixed depths only. */
function writable(value: unknown, depth = 0): unknown {
  if (value instanceof Error) return writable(errorFields(value), depth);
  if (Array.isArray(value)) return depth < maxDepth ? value.map((item) => writable(item, depth + 1)) : '…';
  if (!isPlainObject(value)) return value;
  if (depth >= maxDepth) return '…';
  const copy: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(value)) {
    copy[name] = secretFields.has(name) ? '***' : writable(field, depth + 1);
  }
  return copy;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function errorFields(error: Error): Record<string, unknown> {
  return {
    name: error.name,
    // Libraries tell URLs of what they could not reach, with everything in them.
    message: maskUrls(error.message),
    ...(error instanceof AppError ? { code: error.code, detail: error.detail, data: error.data } : {}),
    stack: error.stack === undefined ? undefined : maskUrls(error.stack),
    ...(error.cause === undefined ? {} : { cause: error.cause }),
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
