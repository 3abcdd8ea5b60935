export { type Campaign, type CampaignOptions, campaign } from './campaign.ts';
export type { ConfigChange, ConfigEntry, ConfigStore } from './config-store.ts';
export { EmbeddedConfigStore } from './embedded/embedded-config-store.ts';
export { EmbeddedLeases } from './embedded/embedded-leases.ts';
export { InProcessEventBus, type InProcessEventBusOptions } from './embedded/in-process-event-bus.ts';
export { InProcessLiveValues } from './embedded/in-process-live-values.ts';
export type { BusEvent, DeadLetter, EventBus, EventMap, EventOf } from './event-bus.ts';
export type { Lease, Leases } from './leases.ts';
export type { LiveValues, WindowCount } from './live-values.ts';
