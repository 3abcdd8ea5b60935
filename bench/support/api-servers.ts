import { type ChildProcess, fork, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { managerMigrations, migrate, openPostgres } from '@backend.ai/database';
import { defaultFixture, openInstallation } from '@backend.ai/manager';
import { ensureRequestId, silentLogger } from '@backend.ai/telemetry';
import { startEtcd, startPostgres, startRedis } from '../../scripts/dev-servers/index.ts';

export interface ServerProcess {
  readonly pid: number;
  readonly port: number;
}

export interface ApiServers {
  readonly manager: ServerProcess;
  readonly peer: ServerProcess;
  /** Owner of `sessions` running sessions, `s-1` and so on. */
  readonly credentials: { readonly accessKey: string; readonly secretKey: string };
  stop(): Promise<void>;
}

const launcher = fileURLToPath(new URL('../../backend.ai', import.meta.url));

/**
 * A manager as operators start it and the peer, each a process of its own, on one PostgreSQL; Redis and etcd for the
 * manager. `BENCH_PROFILES` names a folder that gets a CPU profile of the manager.
 */
export async function startApiServers(sessions: number): Promise<ApiServers> {
  const directory = await mkdtemp(join(tmpdir(), 'bench-api-'));
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
    const credentials = await fillDatabase(postgres.url, join(directory, 'keys'), sessions);
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
    const peer = fork(fileURLToPath(new URL('./bare-api.ts', import.meta.url)), [postgres.url, credentials.accessKey]);
    stops.push(() => end(peer));
    const [port] = (await once(peer, 'message')) as [number];
    return {
      manager: { pid: manager.pid ?? 0, port: Number(new URL(addresses.API ?? '').port) },
      peer: { pid: peer.pid ?? 0, port },
      ...{ credentials, stop },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function fillDatabase(url: string, keys: string, sessions: number): Promise<ApiServers['credentials']> {
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
      const { accessKey, secretKey } = credentials;
      // Calls are counted, but there is no end to them.
      await db.execute(`update keypairs set rate_limit = 2000000000`);
      const id = (kind: number): string => `('00000000-0000-7000-800${kind}-' || lpad(to_hex(n), 12, '0'))::uuid`;
      const rows = `generate_series(1, ${sessions}) as n`;
      await db.execute(`
        insert into sessions (id, name, domain_name, project_id, user_id, access_key, image, architecture,
          resource_group, status, status_reason, requested_slots, scheduled_at, started_at, request_id)
        select ${id(1)}, 's-' || n, 'default', p.id, k.user_id, k.access_key, 'local/python:3.11', 'x86_64', 'default',
          'RUNNING', 'runner-answered', '{"cpu": "1", "mem": "536870912"}', now(), now(), 'bench'
        from ${rows}, keypairs k, projects p where k.access_key = '${accessKey}' and p.name = 'default'`);
      await db.execute(`
        insert into kernels (id, session_id, agent_id, image, status, status_reason, status_data, requested_slots,
          request_id)
        select ${id(2)}, ${id(1)}, 'i-1', 'local/python:3.11', 'RUNNING', 'runner-answered',
          '{"steps": [{"name": "prepare-folders", "ms": 3}, {"name": "start-runner", "ms": 40}]}', '{"cpu": "1"}', 'bench'
        from ${rows}`);
      await db.execute('vacuum analyze');
      return { accessKey, secretKey };
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

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}
