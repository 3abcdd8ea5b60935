import { describeConfigStore, describeLeases } from '@backend.ai/coordination/testing';
import { newId } from '@backend.ai/core';
import { type DatabaseHandle, isCurrentEpoch, nextEpoch } from '@backend.ai/database';
import { silentLogger } from '@backend.ai/telemetry';
import { testDatabase } from '@backend.ai/testing';
import { afterAll, beforeAll, inject } from 'vitest';
import { EtcdConfigStore, EtcdLeases, EtcdServer, type LeaseEpochs } from '../src/index.ts';

const logger = silentLogger;
const { etcdUrl } = inject('servers');
let database: DatabaseHandle;
let epochs: LeaseEpochs;
beforeAll(async () => {
  database = await testDatabase();
  const { db } = database;
  epochs = {
    next: (name, holder) => nextEpoch(db, name, holder),
    isCurrent: (name, epoch) => isCurrentEpoch(db, name, epoch),
  };
});
afterAll(() => database.close());

const open = (): Promise<EtcdServer> => EtcdServer.open({ urls: etcdUrl, namespace: `test/${newId()}/` });

describeConfigStore('in etcd', async () => {
  const server = await open();
  const store = new EtcdConfigStore({ server, logger });
  return {
    store,
    dispose: async () => {
      await store.close();
      server.close();
    },
  };
});

describeLeases('in etcd and the database', async () => {
  const server = await open();
  return {
    leases: new EtcdLeases({ server, epochs, logger }),
    advance: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    dispose: async () => server.close(),
  };
});
