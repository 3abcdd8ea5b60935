/** Behaviour suites: a fake or embedded adapter and the real thing pass the same. For vitest only. */
export { type ConfigStoreSetup, describeConfigStore } from './config-store-suite.ts';
export { describeEventBus, type EventBusSetup } from './event-bus-suite.ts';
export { describeLeases, type LeasesSetup } from './leases-suite.ts';
export { describeLiveValues, type LiveValuesSetup } from './live-values-suite.ts';
