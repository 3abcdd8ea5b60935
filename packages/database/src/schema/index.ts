export * from './agents.ts';
export * from './audit.ts';
export * from './coordination.ts';
export * from './identity.ts';
export * from './peers.ts';
export * from './resource-groups.ts';
export * from './resource-policies.ts';
export * from './sessions.ts';
