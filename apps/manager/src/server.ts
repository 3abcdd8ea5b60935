import { loadOrCreateIdentity, type PeerIdentity } from '@backend.ai/rpc';
import { DependencyChecks, type RunningService } from '@backend.ai/runtime';
import type { GaugeOptions } from '@backend.ai/runtime/metrics';
import { startComponentServer } from '@backend.ai/runtime/server';
import type { Logger } from '@backend.ai/telemetry';
import { type ClusterCounts, managerHandlers } from './admin.ts';
import { managerVersion } from './config.ts';
import { createManager, type Manager } from './manager.ts';
import type { ManagerServerOptions } from './server-config.ts';
import { storeNames } from './store-names.ts';
import { dependenciesOf, openStores, requireSchema, type Stores } from './stores.ts';

/**
 * What is there can be used without them, though nothing new starts: no proxy is to take every manager out because of
 * one of these.
 */
const servedWithout: ReadonlySet<string> = new Set([storeNames.redis, storeNames.etcd]);

/** One manager as a process of its own, on PostgreSQL, Redis and etcd. */
export function startManagerServer(options: ManagerServerOptions, logger: Logger): Promise<RunningService> {
  const { config, runDir, metrics } = options;
  const managerId = config.managerId ?? 'manager';
  let stores!: Stores;
  let identity!: PeerIdentity;
  let manager!: Manager;
  let checks!: DependencyChecks;
  let addresses: Record<string, string> = {};
  return startComponentServer(
    {
      ...{ component: 'manager', version: managerVersion, runDir, metrics, logger },
      stopDeadlineMs: config.stopDeadlineMs ?? 10_000,
    },
    [
      {
        name: 'identity',
        async start() {
          identity = await loadOrCreateIdentity(options.identityFile, 'manager', managerId);
        },
      },
      {
        name: 'stores',
        async start() {
          stores = await openStores(options, { logger, source: managerId });
          await requireSchema(stores.database.db);
          checks = new DependencyChecks(dependenciesOf(stores));
        },
        stop: () => stores?.close(),
      },
      {
        name: 'manager',
        async start() {
          const { database, coordination } = stores;
          const { eventBus, liveValues, configStore, leases } = coordination;
          manager = await createManager({
            ...{
              config,
              database: database.db,
              steadyDatabase: database.steady,
              eventBus,
              liveValues,
              configStore,
              leases,
              identity,
              logger,
            },
            rpc: { webSocket: options.rpc },
            http: options.http,
            canServe: async () => (await checks.now()).every(({ name, healthy }) => healthy || servedWithout.has(name)),
          });
          await manager.services.ensureInstallation();
          const { api, rpc } = await manager.start();
          addresses = { ...(api ? { API: api } : {}), ...(rpc ? { RPC: rpc.address } : {}) };
        },
        stop: () => manager?.close(),
      },
    ],
    () => ({
      addresses,
      // The rest of what operators do, they do on the stores.
      handlers: managerHandlers(manager, checks),
      dependencies: checks,
      gauges: clusterGauges(manager.services),
    }),
  );
}

/** Of the whole cluster but the last: every manager tells the same, as the database does. */
export function clusterGauges(services: Pick<Manager['services'], 'counts' | 'leaderEpoch'>): GaugeOptions[] {
  let asked: Promise<ClusterCounts> | undefined;
  // Who reads the metrics asks for all of them at once.
  const counts = (): Promise<ClusterCounts> => {
    asked ??= services.counts().finally(() => {
      asked = undefined;
    });
    return asked;
  };
  return [
    {
      name: 'backend_sessions',
      help: 'Live sessions of the cluster by status',
      label: 'status',
      collect: async () => (await counts()).sessions,
    },
    {
      name: 'backend_agents',
      help: 'Agents of the cluster by status',
      label: 'status',
      collect: async () => (await counts()).agents,
    },
    {
      name: 'backend_leader',
      help: '1 while this manager leads',
      collect: () => (services.leaderEpoch() === undefined ? 0 : 1),
    },
  ];
}
