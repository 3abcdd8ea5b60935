import { createLogger, LogFile, type Logger, LogSink, readableRecord } from '@backend.ai/telemetry';
import { z } from 'zod';
import type { ConfigValues } from './config/index.ts';
import { path } from './config/index.ts';

const level = z.enum(['debug', 'info', 'warn', 'error']);

/** The section `[logging]` of every component. */
export const loggingSection = z
  .strictObject({
    level: level.default('info').describe('The least important records that are written'),
    levels: z
      .record(z.string(), level)
      .default({})
      .meta({
        description: 'Other levels for single modules',
        example: { rpc: 'debug' },
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
  .describe(
    'What is told about the work. Records never hold secrets, and a full disk drops them without ending the service.',
  );

export type LoggingSettings = ConfigValues<{ logging: typeof loggingSection }>['logging'];

export interface OpenLog {
  readonly logger: Logger;
  /** For SIGHUP: who rotates files himself has moved this one away. */
  reopen(): void;
  close(): void;
}

const standardError = 2;

/** @param isTerminal Whether standard error is one. */
export function openLog(component: string, settings: LoggingSettings, isTerminal: boolean): OpenLog {
  const file =
    settings.file === undefined ? undefined : new LogFile({ path: settings.file, maxBytes: settings.maxFileBytes });
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
