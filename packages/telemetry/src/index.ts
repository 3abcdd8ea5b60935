export * from './background.ts';
export * from './failure-fields.ts';
export * from './log-file.ts';
export * from './log-sink.ts';
export * from './logger.ts';
export * from './observations.ts';
export * from './readable-log.ts';
export * from './request-context.ts';
