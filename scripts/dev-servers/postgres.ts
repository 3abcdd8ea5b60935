import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chown, mkdir, open, readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { AppError } from '@backend.ai/core';
import { DevServer, type DevServerOptions, writeSecret } from './dev-server.ts';
import { freePort } from './ports.ts';
import { requireProgram } from './programs.ts';

export interface PostgresOptions extends DevServerOptions {
  /** Of the superuser `postgres`; asked for with SCRAM on every connection. Counts when the data is made. */
  readonly password: string;
  /** False trades safety in a power cut, not that of a killed server, for speed. True unless given. */
  readonly durable?: boolean;
}

const run = promisify(execFile);

/**
 * The data directory as an open descriptor: the server's user need not be able to walk through the folders above it,
 * which for root is often its closed home folder.
 */
const openData = '/proc/self/fd/3';

/**
 * PostgreSQL on loopback only, with the superuser `postgres` and a password. It refuses to run as root: then it runs as
 * the account `postgres` of the package, or as `nobody`.
 */
export async function startPostgres(options: PostgresOptions): Promise<DevServer> {
  const binaries = requireProgram('postgres');
  const directory = resolve(options.directory);
  const data = join(directory, 'data');
  const account = process.getuid?.() === 0 ? await unprivilegedAccount() : undefined;
  await mkdir(data, { recursive: true, mode: 0o700 });
  if (account) await chown(data, account.uid, account.gid);
  if (!existsSync(join(data, 'PG_VERSION'))) {
    await initialise(join(binaries, 'initdb'), directory, options, account);
  }
  const port = options.port ?? (await freePort());
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    max_connections: '200',
    timezone: 'UTC',
    ...(options.durable === false ? { fsync: 'off', full_page_writes: 'off' } : {}),
  };
  return DevServer.start({
    name: 'PostgreSQL',
    directory,
    port,
    url: `postgres://postgres:${encodeURIComponent(options.password)}@127.0.0.1:${port}/postgres`,
    command: [
      join(binaries, 'postgres'),
      '-D',
      openData,
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ],
    openFolder: data,
    account,
    stopSignal: 'SIGINT',
    survives: options.survives ?? false,
    probe: async () => {
      await run(join(binaries, 'pg_isready'), ['-q', '-t', '2', '-h', '127.0.0.1', '-p', String(port)]);
    },
  });
}

async function unprivilegedAccount(): Promise<{ uid: number; gid: number }> {
  const accounts = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  const found = ['postgres', 'nobody'].flatMap((name) => accounts.filter((account) => account[0] === name))[0];
  if (found) return { uid: Number(found[2]), gid: Number(found[3]) };
  throw new AppError('config-invalid', 'PostgreSQL does not run as root, and there is no account for it.', {
    hint: 'Install the package postgresql, or run this as an ordinary user.',
  });
}

async function initialise(
  initdb: string,
  directory: string,
  options: PostgresOptions,
  account: { uid: number; gid: number } | undefined,
): Promise<void> {
  const data = join(directory, 'data');
  // Left by an earlier attempt that was interrupted: initdb wants an empty folder.
  await rm(data, { recursive: true, force: true });
  await mkdir(data, { mode: 0o700 });
  if (account) await chown(data, account.uid, account.gid);
  const passwordPath = join(directory, 'password');
  const passwordFile = await writeSecret(passwordPath, options.password);
  const [log, folder] = await Promise.all([open(join(directory, 'log'), 'a', 0o600), open(data)]);
  try {
    if (account) await passwordFile.chown(account.uid, account.gid);
    const child = spawn(
      initdb,
      [
        ...['-D', openData, '--username=postgres', '--auth=scram-sha-256', '--pwfile=/proc/self/fd/4'],
        ...['--encoding=UTF8', '--locale=C', '--no-instructions'],
        ...(options.durable === false ? ['--no-sync'] : []),
      ],
      {
        cwd: '/',
        stdio: ['ignore', log.fd, log.fd, folder.fd, passwordFile.fd],
        env: { PATH: process.env.PATH ?? '', LANG: 'C.UTF-8' },
        ...account,
      },
    );
    const code = await new Promise((done, failed) => child.once('close', done).once('error', failed));
    if (code !== 0) {
      throw new AppError('internal', 'PostgreSQL could not make its data directory.', {
        hint: `See the log: ${join(directory, 'log')}`,
      });
    }
  } finally {
    await Promise.all([passwordFile.close(), log.close(), folder.close()]);
    await rm(passwordPath, { force: true });
  }
}
