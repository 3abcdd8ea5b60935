export { type ManagerStatusView, managerHandlers, operatorHandlers } from './admin.ts';
export {
  defaultAdminEmail,
  type ManagerConfig,
  type ManagerConfigInput,
  managerVersion,
  parseManagerConfig,
} from './config.ts';
export type { SessionChange } from './events.ts';
export { type Installation, type InstallationOptions, openInstallation } from './installation.ts';
export {
  createManager,
  type Manager,
  type ManagerAddresses,
  type ManagerOptions,
  type ManagerServices,
} from './manager.ts';
export { createOperator, type Operator, type OperatorOptions } from './operator.ts';
export type { LedgerViolation } from './repositories/ledger.ts';
export { defaultFixture } from './services/fixtures/default-fixture.ts';
export type { Fixture } from './services/fixtures/fixture.ts';
export { type FixtureCredentials, FixtureService, parseFixture } from './services/fixtures/fixture-service.ts';
export type { AdminCredentials } from './services/installation/installation-service.ts';
export type { IssuedToken } from './services/peers/peer-service.ts';
