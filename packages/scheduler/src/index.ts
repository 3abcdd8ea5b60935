export * from './apply-remedy.ts';
export type { Estimate } from './estimate.ts';
export {
  type AgentExplanation,
  explain,
  type WaitingExplanation,
} from './explain.ts';
export * from './fair-share.ts';
export { givingUpDefaults, priorityLostByGivingUp } from './giving-up.ts';
export * from './plan.ts';
export type { PreemptionPreview } from './preview.ts';
export type { Change, Remedy } from './remedies.ts';
export * from './schedule.ts';
export { defaultSlotPriority } from './selection.ts';
export * from './snapshot.ts';
export * from './snapshot-json.ts';
export * from './state.ts';
export * from './warm-pools.ts';
