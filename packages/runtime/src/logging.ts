import { AppError } from '@backend.ai/core';
import { createLogger, LogFile, type Logger, LogSink, readableRecord } from '@backend.ai/telemetry';
import { z } from 'zod';
import { path } from './config/index.ts';

const level = z.enum(['debug', 'info', 'warn', 'error']);

/**
 * The section `[logging]` of a component.
 * @param modules Parts of it that can have levels of their own: what `logger.with({ module })` names.
 */
export function loggingSection(...modules: [string, ...string[]]): LoggingSchema {
  return z
    .strictObject({
      level: level.default('info').describe('The least important records that are written'),
      levels: z
        .partialRecord(z.enum(modules), level)
        .default({})
        .meta({
          description: 'Other levels for single modules',
          example: { [modules[0]]: 'debug' },
        }),
      format: z
        .enum(['auto', 'json', 'text'])
        .default('auto')
        .describe('JSON lines for machines, text for people; auto is text on a terminal and JSON elsewhere'),
      file: path().optional().meta({
        description: 'Where records go instead of standard error. SIGHUP opens it anew',
        example: '/var/log/backend.ai/service.log',
      }),
      maxFileBytes: z
        .number()
        .int()
        .min(4096)
        .default(64 * 1024 * 1024)
        .meta({ description: 'The file is renamed to FILE.1 when it would grow larger', unit: 'bytes' }),
    })
    .describe('Records of the work. They never hold secrets, and a full disk drops them without ending the service.');
}

type Level = typeof level;

export type LoggingSchema = z.ZodObject<
  {
    level: z.ZodDefault<Level>;
    levels: z.ZodDefault<z.ZodRecord<z.ZodEnum & z.core.$partial, Level>>;
    format: z.ZodDefault<z.ZodEnum<{ auto: 'auto'; json: 'json'; text: 'text' }>>;
    file: z.ZodOptional<z.ZodString>;
    maxFileBytes: z.ZodDefault<z.ZodNumber>;
  },
  z.core.$strict
>;

export type LoggingSettings = z.output<LoggingSchema>;

export interface OpenLog {
  readonly logger: Logger;
  /** For SIGHUP: who rotates files himself has moved this one away. */
  reopen(): void;
  close(): void;
}

const standardError = 2;

/**
 * @param isTerminal Whether standard error is one.
 * @throws AppError `config-invalid` when the log file cannot be opened
 */
export function openLog(component: string, settings: LoggingSettings, isTerminal: boolean): OpenLog {
  const file = settings.file === undefined ? undefined : openFile(settings.file, settings.maxFileBytes);
  const sink = file ?? new LogSink(standardError);
  const onTerminal = isTerminal && file === undefined;
  const readable = settings.format === 'text' || (settings.format === 'auto' && onTerminal);
  const destination = {
    write(line: string): void {
      sink.write(readable ? readableRecord(line, { colour: onTerminal }) : line);
    },
  };
  return {
    logger: createLogger({ component, level: settings.level, levels: settings.levels, destination }),
    reopen: () => file?.reopen(),
    close: () => file?.close(),
  };
}

function openFile(path: string, maxBytes: number): LogFile {
  try {
    return new LogFile({ path, maxBytes });
  } catch (cause) {
    throw new AppError(
      'config-invalid',
      `The log file ${path} cannot be opened (${(cause as NodeJS.ErrnoException).code}).`,
      {
        hint: 'Let it be writable, or set logging.file to another one.',
        cause,
      },
    );
  }
}
