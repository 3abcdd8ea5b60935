import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { loadOrCreateIdentity, type PeerIdentity } from '@backend.ai/rpc';
import {
  AdminSocket,
  type DirectoryLock,
  InternalServer,
  Lifecycle,
  lockDirectory,
  type RunningService,
  type ServiceState,
} from '@backend.ai/runtime';
import { Metrics } from '@backend.ai/runtime/metrics';
import { ensureRequestId, type Logger } from '@backend.ai/telemetry';
import { managerHandlers } from './admin.ts';
import { managerVersion } from './config.ts';
import { createManager, type Manager } from './manager.ts';
import type { ManagerServerOptions } from './server-config.ts';
import { dependenciesOf, openStores, requireSchema, type Stores } from './stores.ts';

/** One manager as a process of its own, on PostgreSQL, Redis and etcd. */
export async function startManagerServer(options: ManagerServerOptions, logger: Logger): Promise<RunningService> {
  return await ensureRequestId(() => start(options, logger));
}

async function start(options: ManagerServerOptions, logger: Logger): Promise<RunningService> {
  const { config, runDir } = options;
  const managerId = config.managerId ?? 'manager';
  const lifecycle = new Lifecycle({ logger, stopDeadlineMs: config.stopDeadlineMs ?? 10_000 });
  const metrics = new Metrics('manager');
  let state: ServiceState = 'starting';
  let lock!: DirectoryLock;
  let stores!: Stores;
  let identity!: PeerIdentity;
  let manager!: Manager;
  let door!: AdminSocket;
  let internal!: InternalServer;
  let addresses: Record<string, string> = {};
  await lifecycle.start([
    { name: 'metrics', stop: () => metrics.close() },
    {
      name: 'data folder',
      async start() {
        mkdirSync(runDir, { recursive: true, mode: 0o700 });
        lock = await lockDirectory(dirname(runDir));
        identity = await loadOrCreateIdentity(options.identityFile, 'manager', managerId);
      },
      stop: () => lock?.release(),
    },
    {
      name: 'stores',
      async start() {
        stores = await openStores(options, { logger, source: managerId });
        await requireSchema(stores.database.db);
      },
      stop: () => stores?.close(),
    },
    {
      name: 'manager',
      async start() {
        const { database, coordination } = stores;
        const { eventBus, liveValues, configStore, leases } = coordination;
        manager = await createManager({
          ...{ config, database: database.db, eventBus, liveValues, configStore, leases, identity, logger },
          rpc: { webSocket: options.rpc },
          http: options.http,
        });
        await manager.services.ensureInstallation();
        const { api, rpc } = await manager.start();
        addresses = { ...(api ? { API: api } : {}), ...(rpc ? { RPC: rpc.address } : {}) };
      },
      stop: () => manager?.close(),
    },
    {
      name: 'admin socket',
      async start() {
        // The rest of what operators do, they do on the stores.
        door = new AdminSocket(join(runDir, 'manager.sock'), managerHandlers(manager), logger);
        await door.start();
      },
      stop: () => door?.stop(),
    },
    {
      name: 'internal port',
      async start() {
        internal = new InternalServer({
          ...options.metrics,
          component: 'manager',
          version: managerVersion,
          state: () => state,
          dependencies: dependenciesOf(stores),
          metrics,
          logger,
        });
        addresses = { ...addresses, Health: `${(await internal.start()).url}/health` };
      },
      stop: () => internal?.stop(),
    },
  ]);
  addGauges(metrics, manager);
  state = 'ready';
  return {
    addresses,
    async stop() {
      state = 'stopping';
      await lifecycle.stop();
    },
  };
}

/** Of the whole cluster but the last: every manager tells the same, as the database does. */
function addGauges(metrics: Metrics, { services }: Manager): void {
  metrics.addGauge({
    name: 'backend_sessions',
    help: 'Live sessions of the cluster by status',
    label: 'status',
    collect: async () => (await services.status()).sessions,
  });
  metrics.addGauge({
    name: 'backend_agents',
    help: 'Agents of the cluster by status',
    label: 'status',
    collect: async () => (await services.status()).agents,
  });
  metrics.addGauge({
    name: 'backend_leader',
    help: '1 while this manager leads',
    collect: () => (services.leaderEpoch() === undefined ? 0 : 1),
  });
}
