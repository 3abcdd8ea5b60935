import { type Coordination, EtcdServer, openCoordination } from '@backend.ai/coordination';
import { newId } from '@backend.ai/core';
import { type DatabaseHandle, isCurrentEpoch, nextEpoch } from '@backend.ai/database';
import { silentLogger as logger } from '@backend.ai/telemetry';
import { providedServers } from '@backend.ai/testing';

/** What a manager has beside its database. */
export type Stores = Omit<Coordination, 'servers'>;

/** What the managers of one world share beside their database. */
export interface TestCoordination {
  /** For one manager, or for an operator. */
  open(database: DatabaseHandle): Promise<Stores>;
  /** As if nobody had renewed any lease for long. */
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
  const { redisUrl, etcdUrl } = servers;
  const namespace = `test-${newId()}`;
  const etcd = await EtcdServer.open({ urls: etcdUrl, namespace: `${namespace}/` });
  return {
    open: ({ db }) =>
      openCoordination({
        ...{ redis: { url: redisUrl }, etcd: { urls: etcdUrl }, namespace, source: newId(), logger },
        epochs: {
          next: (name, holder) => nextEpoch(db, name, holder),
          isCurrent: (name, epoch) => isCurrentEpoch(db, name, epoch),
        },
      }),
    async endLeases() {
      const { kvs } = await etcd.run((keys) => keys.getAll().prefix('leases/').exec());
      await Promise.all(kvs.map(({ lease }) => etcd.run((keys) => keys.leaseClient.leaseRevoke({ ID: lease }))));
    },
    close: async () => etcd.close(),
  };
}
