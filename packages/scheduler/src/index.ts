export * from './explain.ts';
export * from './plan.ts';
export * from './schedule.ts';
export * from './snapshot.ts';
