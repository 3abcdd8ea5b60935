import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Database, managerMigrations, migrate, openPostgres } from '@backend.ai/database';
import { defaultFixture, openInstallation } from '@backend.ai/manager';
import { ensureRequestId, silentLogger } from '@backend.ai/telemetry';
import { startEtcd, startPostgres, startRedis } from '../../scripts/dev-servers/index.ts';

export interface ServerProcess {
  readonly pid: number;
  readonly port: number;
}

export interface ManagerProcess extends ServerProcess {
  /** Where agents reach it. */
  readonly rpcAddress: string;
}

export interface Servers {
  readonly directory: string;
  readonly databaseUrl: string;
  readonly manager: ManagerProcess;
  /** Process ids of everything that takes part, by name. */
  readonly processes: Map<string, number>;
  /** Of the user of the default fixture; calls are not limited. */
  readonly credentials: { readonly accessKey: string; readonly secretKey: string };
  /** Called before those that were there, in reverse order. */
  onStop(stop: () => Promise<unknown>): void;
  stop(): Promise<void>;
}

const launcher = fileURLToPath(new URL('../../backend.ai', import.meta.url));

/**
 * A manager as operators start it, with PostgreSQL, Redis and etcd. `fill` adds rows before it starts. `BENCH_PROFILES`
 * names a folder that gets a CPU profile of the manager.
 */
export async function startServers(
  fill: (db: Database, credentials: Servers['credentials']) => Promise<void> = async () => {},
): Promise<Servers> {
  const directory = await mkdtemp(join(tmpdir(), 'bench-servers-'));
  const stops: Array<() => Promise<unknown>> = [() => rm(directory, { recursive: true, force: true })];
  const stop = async (): Promise<void> => {
    for (const each of stops.reverse()) await each();
  };
  try {
    const password = randomBytes(16).toString('hex');
    const starts = [
      startPostgres({ directory: join(directory, 'postgres'), password, durable: false }),
      startRedis({ directory: join(directory, 'redis'), password, durable: false }),
      startEtcd({ directory: join(directory, 'etcd') }),
    ] as const;
    const settled = await Promise.allSettled(starts);
    for (const one of settled) if (one.status === 'fulfilled') stops.push(() => one.value.kill());
    const [postgres, redis, etcd] = await Promise.all(starts);
    const credentials = await prepareDatabase(postgres.url, join(directory, 'keys'), fill);
    const profiles = process.env.BENCH_PROFILES;
    const manager = spawn(
      process.execPath,
      [
        ...(profiles ? ['--cpu-prof', `--cpu-prof-dir=${profiles}`] : []),
        ...[launcher, 'mgr', 'start-server', '--json'],
        ...Object.entries({
          'manager.data-dir': directory,
          'http.port': 0,
          'rpc.port': 0,
          'metrics.port': 0,
          'etcd.endpoints': etcd.url,
          'logging.file': join(directory, 'manager.log'),
        }).flatMap(([key, value]) => ['--set', `${key}=${value}`]),
      ],
      {
        cwd: directory,
        env: { ...process.env, BACKEND_MANAGER_DATABASE_URL: postgres.url, BACKEND_MANAGER_REDIS_URL: redis.url },
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    stops.push(() => end(manager));
    const { addresses } = await firstDocument(manager);
    const processes = new Map(
      Object.entries({ manager, PostgreSQL: postgres, Redis: redis }).map(([name, { pid }]) => [name, pid ?? 0]),
    );
    return {
      directory,
      processes,
      databaseUrl: postgres.url,
      manager: {
        pid: manager.pid ?? 0,
        port: Number(new URL(addresses.API ?? '').port),
        rpcAddress: addresses.RPC ?? '',
      },
      credentials,
      onStop: (each) => stops.push(each),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function prepareDatabase(
  url: string,
  keys: string,
  fill: (db: Database, credentials: Servers['credentials']) => Promise<void>,
): Promise<Servers['credentials']> {
  const { db, close } = await openPostgres({ url, maxConnections: 2 });
  try {
    return await ensureRequestId(async () => {
      await migrate(db, { directory: managerMigrations });
      const { fixtures } = openInstallation({
        database: db,
        installationKeyFile: join(keys, 'installation.key'),
        adminEmail: 'admin@backend.ai.local',
        logger: silentLogger,
      });
      const [credentials] = await fixtures.populate(defaultFixture);
      if (!credentials) throw new Error('The fixture made no key pair.');
      // Calls are counted, but there is no end to them.
      await db.execute(`update keypairs set rate_limit = 2000000000`);
      await fill(db, credentials);
      await db.execute('vacuum analyze');
      return credentials;
    });
  } finally {
    await close();
  }
}

/** What `start-server --json` says when it is ready. */
async function firstDocument(child: ChildProcess): Promise<{ addresses: Record<string, string> }> {
  let text = '';
  child.stdout?.setEncoding('utf8');
  for await (const chunk of child.stdout ?? []) {
    text += chunk;
    if (!text.endsWith('}\n')) continue;
    const document = JSON.parse(text);
    if (document.addresses) return document;
  }
  throw new Error(`The manager did not start: ${text}`);
}

/** Asks a process to end, and waits until it has. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}
