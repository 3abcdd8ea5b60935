export * from './background.ts';
export * from './log-file.ts';
export * from './logger.ts';
export * from './request-context.ts';
