import { type Coordination, EtcdServer, openCoordination, RedisServer } from '@backend.ai/coordination';
import {
  type Database,
  type DatabaseHandle,
  type Deadlines,
  isCurrentEpoch,
  managerMigrations,
  migrationStatus,
  nextEpoch,
  openPostgres,
  requireMigrated,
  serverVersion,
} from '@backend.ai/database';
import type { Dependency } from '@backend.ai/runtime';
import type { Logger } from '@backend.ai/telemetry';
import type { ManagerServerOptions } from './server-config.ts';

type StoreOptions = Pick<ManagerServerOptions, 'database' | 'redis' | 'etcd'>;

/** The servers that managers share. */
export interface Stores {
  readonly database: DatabaseHandle;
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
      redis: { url: options.redis.url.reveal() },
      etcd: { urls: etcdUrls(options.etcd) },
      namespace: options.etcd.namespace,
      source,
      epochs: {
        next: (name, holder) => nextEpoch(db, name, holder),
        isCurrent: (name, epoch) => isCurrentEpoch(db, name, epoch),
      },
      logger,
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
): Promise<DatabaseHandle> {
  return openPostgres({ url: database.url.reveal(), maxConnections: database.maxConnections, deadlines });
}

/** @throws AppError `config-invalid` unless the schema is the one that this version works with */
export async function requireSchema(db: Database): Promise<string> {
  const migrations = { directory: managerMigrations };
  await requireMigrated(db, { ...migrations, command: './backend.ai mgr dbschema migrate' });
  return (await migrationStatus(db, migrations)).current ?? '';
}

/** For a process that has them open. */
export function dependenciesOf({ database, coordination }: Stores): Dependency[] {
  const ask = async (name: 'redis' | 'etcd'): Promise<string> => {
    const health = (await coordination.health()).find((each) => each.name === name);
    if (health?.failure) throw health.failure;
    return health?.address ?? '';
  };
  return [
    { name: 'PostgreSQL', check: () => serverVersion(database.db) },
    { name: 'Schema', check: () => requireSchema(database.db) },
    { name: 'Redis', check: () => ask('redis') },
    { name: 'etcd', check: () => ask('etcd') },
  ];
}

/** For a command that only wants to know: each is opened by itself, so that one tells nothing about another. */
export function dependenciesToOpen(options: StoreOptions, logger: Logger): Dependency[] {
  const connectDeadlineMs = 2_500;
  const onDatabase = async (ask: (db: Database) => Promise<string>): Promise<string> => {
    const { db, close } = await openDatabase(options);
    return await ask(db).finally(close);
  };
  return [
    { name: 'PostgreSQL', check: () => onDatabase(serverVersion) },
    { name: 'Schema', check: () => onDatabase(requireSchema) },
    {
      name: 'Redis',
      async check() {
        const server = await RedisServer.open({ url: options.redis.url.reveal(), logger, connectDeadlineMs });
        await server.close();
        return server.address;
      },
    },
    {
      name: 'etcd',
      async check() {
        const { namespace } = options.etcd;
        const server = await EtcdServer.open({ urls: etcdUrls(options.etcd), namespace, connectDeadlineMs });
        server.close();
        return server.address;
      },
    },
  ];
}

function etcdUrls({ endpoints, user, password }: StoreOptions['etcd']): string[] {
  return endpoints.map((endpoint) => {
    const url = new URL(endpoint);
    if (user !== undefined) url.username = user;
    if (password !== undefined) url.password = password.reveal();
    return url.href;
  });
}
