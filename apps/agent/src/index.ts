export { Accelerators } from './accelerators/accelerators.ts';
export { pluginSources } from './accelerators/load-plugins.ts';
export * from './admin-handlers.ts';
export * from './agent.ts';
export type { AgentStatusView } from './agent-status.ts';
export type { BackendCapabilities } from './backends/backend.ts';
export { engineSocketFor } from './backends/choose-backend.ts';
export {
  type EngineReport,
  examineEngine,
  isSupported,
  oldestApiVersion,
  type ReadyEngine,
} from './backends/engine-report.ts';
export type { FakeScript } from './backends/fake/fake-backend.ts';
export { ProcessBackend, type ProcessBackendOptions } from './backends/process/process-backend.ts';
export type { Interpreter } from './backends/process/runtimes.ts';
export * from './config.ts';
