import {
  EtcdLeases,
  EtcdServer,
  type EventBus,
  type Leases,
  type LiveValues,
  RedisEventBus,
  RedisLiveValues,
  RedisServer,
} from '@backend.ai/coordination';
import { newId } from '@backend.ai/core';
import { type Database, isCurrentEpoch, nextEpoch } from '@backend.ai/database';
import { silentLogger as logger } from '@backend.ai/telemetry';
import { providedServers } from '@backend.ai/testing';

/** What managers of one world share beside their database. */
export interface TestCoordination {
  eventBus(): EventBus;
  liveValues(): LiveValues;
  leases(db: Database): Leases;
  /** As if nobody had renewed any for long. */
  endLeases(): Promise<void>;
  close(): Promise<void>;
}

/**
 * On Redis and etcd in the vitest project `servers`, under names of its own; undefined in the others, where managers do it
 * in process.
 */
export async function testCoordination(): Promise<TestCoordination | undefined> {
  const servers = await providedServers();
  if (!servers) return undefined;
  const namespace = `test-${newId()}`;
  const [redis, etcd] = await Promise.all([
    RedisServer.open({ url: servers.redisUrl, logger }),
    EtcdServer.open({ urls: servers.etcdUrl, namespace: `${namespace}/` }),
  ]);
  const prefix = `${namespace}:`;
  return {
    eventBus: () => new RedisEventBus({ server: redis, prefix, source: newId(), logger }),
    liveValues: () => new RedisLiveValues(redis, prefix),
    leases: (db) =>
      new EtcdLeases({
        server: etcd,
        epochs: {
          next: (name, holder) => nextEpoch(db, name, holder),
          isCurrent: (name, epoch) => isCurrentEpoch(db, name, epoch),
        },
        logger,
      }),
    async endLeases() {
      const { kvs } = await etcd.run((keys) => keys.getAll().prefix('leases/').exec());
      await Promise.all(kvs.map(({ lease }) => etcd.run((keys) => keys.leaseClient.leaseRevoke({ ID: lease }))));
    },
    async close() {
      await redis.close();
      etcd.close();
    },
  };
}
