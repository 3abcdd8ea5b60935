import { AppError, type Clock, systemClock } from '@backend.ai/core';
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
}

export interface DependencyHealth {
  readonly name: 'redis' | 'etcd';
  readonly address: string;
  /** Of one answer; absent when there was none. */
  readonly latencyMs?: number;
  /** Why there was none. */
  readonly failure?: AppError;
}

export interface Coordination {
  readonly eventBus: EventBus;
  readonly liveValues: LiveValues;
  readonly configStore: ConfigStore;
  readonly leases: Leases;
  /** Asks each server once. Never throws. */
  health(): Promise<DependencyHealth[]>;
  /** Lets handlers end, then closes all connections. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * The coordination of a process on servers. Resolves when each has answered.
 * @throws AppError `config-invalid` (URL, user, password, version), `server-unreachable`
 */
export async function openCoordination(options: CoordinationOptions): Promise<Coordination> {
  const { namespace = 'backend.ai', source, epochs, logger, clock = systemClock, connectDeadlineMs } = options;
  const redis = await RedisServer.open({ ...options.redis, logger, clock, connectDeadlineMs });
  const etcd = await EtcdServer.open({ ...options.etcd, namespace: `${namespace}/`, connectDeadlineMs }).catch(
    async (error: unknown) => {
      await redis.close();
      throw error;
    },
  );
  const prefix = `${namespace}:`;
  const eventBus = new RedisEventBus({ server: redis, prefix, source, logger, clock });
  const configStore = new EtcdConfigStore({ server: etcd, logger, clock });
  let closed: Promise<void> | undefined;
  return {
    eventBus,
    liveValues: new RedisLiveValues(redis, prefix),
    configStore,
    leases: new EtcdLeases({ server: etcd, epochs, logger, clock }),
    health: () => Promise.all([healthOf('redis', redis), healthOf('etcd', etcd)]),
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

async function healthOf(
  name: DependencyHealth['name'],
  server: { readonly address: string; ping(): Promise<number> },
): Promise<DependencyHealth> {
  const { address } = server;
  try {
    return { name, address, latencyMs: await server.ping() };
  } catch (error) {
    return { name, address, failure: AppError.from(error) };
  }
}
