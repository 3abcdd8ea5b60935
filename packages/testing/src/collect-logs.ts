import { createLogger, type Logger } from '@backend.ai/telemetry';

export interface LogRecord {
  readonly level: string;
  readonly msg: string;
  readonly component: string;
  readonly request_id: string | null;
  readonly [field: string]: unknown;
}

export interface CollectedLogs {
  readonly logger: Logger;
  readonly records: readonly LogRecord[];
  /** Records with this message, which is constant per event. */
  withMessage(message: string): LogRecord[];
}

/** The real logger, writing into an array: what tests see is what operators would. */
export function collectLogs(component = 'test'): CollectedLogs {
  const records: LogRecord[] = [];
  const destination = { write: (line: string): void => void records.push(JSON.parse(line) as LogRecord) };
  return {
    logger: createLogger({ component, level: 'debug', destination }),
    records,
    withMessage: (message) => records.filter((record) => record.msg === message),
  };
}
