import {
  type Coordination,
  type CoordinationServer,
  EtcdServer,
  type EtcdServerOptions,
  openCoordination,
  RedisServer,
  type RedisServerOptions,
  unreachableEtcdHint,
  unreachableRedisHint,
} from '@backend.ai/coordination';
import {
  type Database,
  type Deadlines,
  isCurrentEpoch,
  type MigrationStatus,
  managerMigrations,
  migrationStatus,
  nextEpoch,
  openPostgres,
  type PostgresHandle,
  requireMigrated,
  serverVersion,
  unreachablePostgresHint,
} from '@backend.ai/database';
import type { Dependency } from '@backend.ai/runtime';
import type { Logger } from '@backend.ai/telemetry';
import { examineInstallationKey } from './installation.ts';
import type { ManagerServerOptions } from './server-config.ts';
import { storeNames } from './store-names.ts';

type StoreOptions = Pick<ManagerServerOptions, 'database' | 'redis' | 'etcd'>;
type KeyOptions = { readonly config: Pick<ManagerServerOptions['config'], 'installationKeyFile'> };

/** For errors about what managers are configured with. */
const showConfig = './backend.ai mgr config show';

/** The servers that managers share. */
export interface Stores {
  readonly database: PostgresHandle;
  readonly coordination: Coordination;
  close(): Promise<void>;
}

/** @throws AppError `config-invalid`, `server-unreachable` for the first of them that cannot be used */
export async function openStores(
  options: StoreOptions,
  {
    logger,
    source,
    deadlines,
  }: { readonly logger: Logger; readonly source: string; readonly deadlines?: Partial<Deadlines> | undefined },
): Promise<Stores> {
  const database = await openDatabase(options, deadlines);
  const { db } = database;
  try {
    const coordination = await openCoordination({
      redis: redisOptions(options.redis),
      etcd: etcdOptions(options.etcd),
      namespace: options.etcd.namespace,
      source,
      epochs: {
        next: (name, holder) => nextEpoch(db, name, holder),
        isCurrent: (name, epoch) => isCurrentEpoch(db, name, epoch),
      },
      logger,
      showConfig,
    });
    const close = async (): Promise<void> => {
      await coordination.close();
      await database.close();
    };
    return { database, coordination, close };
  } catch (error) {
    await database.close();
    throw error;
  }
}

export function openDatabase(
  { database }: Pick<StoreOptions, 'database'>,
  deadlines?: Partial<Deadlines>,
): Promise<PostgresHandle> {
  const { url, ca, maxConnections } = database;
  return openPostgres({ url: url.reveal(), ca, maxConnections, deadlines, showConfig });
}

/** @throws AppError `config-invalid` unless the schema is the one that this version works with */
export async function requireSchema(db: Database): Promise<string> {
  return requiredOf(await schemaStatus(db));
}

/** Of a manager that runs: it goes on where an upgrade brings the schema forward for those that come after it. */
async function schemaInUse(db: Database): Promise<string> {
  const status = await schemaStatus(db);
  return status.unknown.length === 0 ? requiredOf(status) : `${status.current}, newer than this manager`;
}

function schemaStatus(db: Database): Promise<MigrationStatus> {
  return migrationStatus(db, { directory: managerMigrations });
}

function requiredOf(status: MigrationStatus): string {
  requireMigrated(status, {
    migrate: './backend.ai mgr dbschema migrate',
    show: './backend.ai mgr dbschema show',
  });
  return status.current ?? '';
}

/** For a process that has them open. */
export function dependenciesOf({ database, coordination }: Stores): Dependency[] {
  const ask = async (server: CoordinationServer): Promise<string> => {
    await server.ping();
    return server.address;
  };
  const { redis, etcd } = coordination.servers;
  return [
    { name: storeNames.database, check: () => database.asked(serverVersion), ifSilent: unreachablePostgresHint },
    { name: 'Schema', check: () => database.asked(schemaInUse), ifSilent: unreachablePostgresHint },
    { name: storeNames.redis, check: () => ask(redis), ifSilent: unreachableRedisHint },
    { name: storeNames.etcd, check: () => ask(etcd), ifSilent: unreachableEtcdHint },
  ];
}

/** For a command that only wants to know: each is opened by itself, so that one tells nothing about another. */
export function dependenciesToOpen(options: StoreOptions & KeyOptions, logger: Logger): Dependency[] {
  const connectDeadlineMs = 2_500;
  const onDatabase = async (ask: (db: Database) => Promise<string>): Promise<string> => {
    const { db, close } = await openDatabase(options);
    return await ask(db).finally(close);
  };
  return [
    { name: storeNames.database, check: () => onDatabase(serverVersion), ifSilent: unreachablePostgresHint },
    { name: 'Schema', check: () => onDatabase(requireSchema), ifSilent: unreachablePostgresHint },
    {
      name: storeNames.redis,
      ifSilent: unreachableRedisHint,
      async check() {
        const server = await RedisServer.open({
          ...redisOptions(options.redis),
          logger,
          connectDeadlineMs,
          showConfig,
        });
        await server.close();
        return server.address;
      },
    },
    {
      name: storeNames.etcd,
      ifSilent: unreachableEtcdHint,
      async check() {
        const { namespace } = options.etcd;
        const server = await EtcdServer.open({
          ...etcdOptions(options.etcd),
          namespace,
          connectDeadlineMs,
          showConfig,
        });
        server.close();
        return server.address;
      },
    },
    {
      name: 'Installation key',
      ifSilent: unreachablePostgresHint,
      check: () => onDatabase((db) => examineInstallationKey(db, options.config.installationKeyFile)),
    },
  ];
}

function redisOptions({ url, ca }: StoreOptions['redis']): Pick<RedisServerOptions, 'url' | 'ca'> {
  return { url: url.reveal(), ca };
}

/** User and password go into the URLs escaped: setting them there leaves a percent sign as it is. */
export function etcdOptions({
  endpoints,
  user,
  password,
  ca,
}: StoreOptions['etcd']): Pick<EtcdServerOptions, 'urls' | 'ca'> {
  const urls = endpoints.map((endpoint) => {
    const url = new URL(endpoint);
    if (user !== undefined) url.username = encodeURIComponent(user);
    if (password !== undefined) url.password = encodeURIComponent(password.reveal());
    return url.href;
  });
  return { urls, ca };
}
