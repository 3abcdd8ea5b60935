export * from './admin-socket.ts';
export * from './config/index.ts';
export * from './lifecycle.ts';
export * from './logging.ts';
export * from './signals.ts';
export * from './tls-files.ts';
export * from './unix-socket.ts';
