export { type Campaign, type CampaignOptions, campaign } from './campaign.ts';
export type { ConfigChange, ConfigEntry, ConfigStore } from './config-store.ts';
export { EmbeddedConfigStore } from './embedded/embedded-config-store.ts';
export { EmbeddedLeases } from './embedded/embedded-leases.ts';
export { InProcessEventBus, type InProcessEventBusOptions } from './embedded/in-process-event-bus.ts';
export { InProcessLiveValues } from './embedded/in-process-live-values.ts';
export { EtcdConfigStore, type EtcdConfigStoreOptions } from './etcd/etcd-config-store.ts';
export { unreachableEtcdHint } from './etcd/etcd-errors.ts';
export { EtcdLeases, type EtcdLeasesOptions, type LeaseEpochs } from './etcd/etcd-leases.ts';
export { EtcdServer, type EtcdServerOptions } from './etcd/etcd-server.ts';
export type { BusEvent, DeadLetter, EventBus, EventMap, EventOf } from './event-bus.ts';
export type { Lease, Leases } from './leases.ts';
export type { LiveValues, WindowCount } from './live-values.ts';
export {
  type Coordination,
  type CoordinationOptions,
  type CoordinationServer,
  openCoordination,
} from './open-coordination.ts';
export { unreachableRedisHint } from './redis/redis-errors.ts';
export { RedisEventBus, type RedisEventBusOptions } from './redis/redis-event-bus.ts';
export { RedisLiveValues } from './redis/redis-live-values.ts';
export { RedisServer, type RedisServerOptions } from './redis/redis-server.ts';
