export * from './explain.ts';
export * from './schedule.ts';
export * from './snapshot.ts';
