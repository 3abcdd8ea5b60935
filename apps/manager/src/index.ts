export { type ManagerStatusView, managerHandlers } from './admin.ts';
export { type ManagerConfig, type ManagerConfigInput, managerVersion, parseManagerConfig } from './config.ts';
export type { SessionChange } from './events.ts';
export {
  createManager,
  type Manager,
  type ManagerAddresses,
  type ManagerOptions,
  type ManagerServices,
} from './manager.ts';
export { createOperator, type Operator, type OperatorOptions } from './operator.ts';
export type { LedgerViolation } from './repositories/ledger.ts';
export type { AdminCredentials } from './services/installation/installation-service.ts';
export type { IssuedToken } from './services/peers/peer-service.ts';
