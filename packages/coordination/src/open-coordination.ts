import { type Clock, systemClock } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import type { ConfigStore } from './config-store.ts';
import { EtcdConfigStore } from './etcd/etcd-config-store.ts';
import { EtcdLeases, type LeaseEpochs } from './etcd/etcd-leases.ts';
import { EtcdServer } from './etcd/etcd-server.ts';
import type { EventBus } from './event-bus.ts';
import type { Leases } from './leases.ts';
import type { LiveValues } from './live-values.ts';
import { RedisEventBus } from './redis/redis-event-bus.ts';
import { RedisLiveValues } from './redis/redis-live-values.ts';
import { RedisServer } from './redis/redis-server.ts';

export interface CoordinationOptions {
  readonly redis: { readonly url: string; readonly ca?: string | undefined };
  readonly etcd: { readonly urls: string | readonly string[]; readonly ca?: string | undefined };
  /** Keeps installations apart that share servers. `backend.ai` unless given. */
  readonly namespace?: string | undefined;
  /** Name of this process in events. */
  readonly source: string;
  readonly epochs: LeaseEpochs;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
  /** For each server; 10 seconds unless given. */
  readonly connectDeadlineMs?: number | undefined;
  /** Command that shows the settings of this process, for errors about them. */
  readonly showConfig?: string | undefined;
}

/** One of the servers, to ask whether it answers. */
export interface CoordinationServer {
  readonly address: string;
  /** Milliseconds that an answer takes. @throws AppError why there is none */
  ping(): Promise<number>;
}

export interface Coordination {
  readonly eventBus: EventBus;
  readonly liveValues: LiveValues;
  readonly configStore: ConfigStore;
  readonly leases: Leases;
  readonly servers: Readonly<Record<'redis' | 'etcd', CoordinationServer>>;
  /** Lets handlers end, then closes all connections. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * The coordination of a process on servers. Resolves when each has answered.
 * @throws AppError `config-invalid` (URL, user, password, version), `server-unreachable`
 */
export async function openCoordination(options: CoordinationOptions): Promise<Coordination> {
  const {
    namespace = 'backend.ai',
    source,
    epochs,
    logger,
    clock = systemClock,
    connectDeadlineMs,
    showConfig,
  } = options;
  const redis = await RedisServer.open({ ...options.redis, logger, clock, connectDeadlineMs, showConfig });
  const etcdOptions = { ...options.etcd, namespace: `${namespace}/`, connectDeadlineMs, showConfig };
  const etcd = await EtcdServer.open(etcdOptions).catch(async (error: unknown) => {
    await redis.close();
    throw error;
  });
  const prefix = `${namespace}:`;
  const eventBus = new RedisEventBus({ server: redis, prefix, source, logger, clock });
  const configStore = new EtcdConfigStore({ server: etcd, logger, clock });
  let closed: Promise<void> | undefined;
  return {
    eventBus,
    liveValues: new RedisLiveValues(redis, prefix),
    configStore,
    leases: new EtcdLeases({ server: etcd, epochs, logger, clock }),
    servers: { redis, etcd },
    close: () => {
      closed ??= (async () => {
        await Promise.all([eventBus.close(), configStore.close()]);
        await redis.close();
        etcd.close();
      })();
      return closed;
    },
  };
}
