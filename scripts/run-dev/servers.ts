import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, delay, systemClock } from '@backend.ai/core';
import {
  missingPackages as missingOf,
  runningIn,
  startEtcd,
  startPostgres,
  startRedis,
  stopIn,
} from '../dev-servers/index.ts';
import type { DevOptions } from './options.ts';
import { requirePorts } from './ports.ts';
import { type DevSecrets, secretFile } from './secrets.ts';
import { serverFolder, serverNames } from './server-names.ts';

const composeFile = join(import.meta.dirname, '..', 'compose.dev.yml');

export interface ServerState {
  readonly name: string;
  readonly port: number;
  readonly pid: number | undefined;
}

const missingPackages = (): string[] => missingOf(serverNames);

/** Whether servers can be started where they are wanted, and of which kind. Says by `say` what it takes and why. */
export async function chooseServers(options: DevOptions, say: (text: string) => void): Promise<'installed' | 'docker'> {
  if (options.install) installMissing(say);
  const missing = missingPackages();
  if (options.docker || missing.length > 0) {
    requireCompose(missing);
    const why = options.docker ? 'as asked for' : `because these packages are not installed: ${missing.join(', ')}`;
    say(`Servers: Docker containers, ${why}`);
    return 'docker';
  }
  // Containers of an earlier start hold them, and go.
  if (!usesContainers(options.directory)) await requirePorts(options);
  say('Servers: those installed on this machine');
  return 'installed';
}

/** Starts what does not run and waits until each answers. */
export async function startServers(
  kind: 'installed' | 'docker',
  options: DevOptions,
  secrets: DevSecrets,
  say: (text: string) => void,
): Promise<void> {
  if (kind === 'docker') return await startContainers(options, secrets);
  if (usesContainers(options.directory)) await forgetContainers(options.directory);
  const { directory, ports } = options;
  const survives = true;
  const started = await Promise.allSettled([
    startPostgres({
      directory: serverFolder(directory, 'postgres'),
      port: ports.postgres,
      password: secrets.postgresSuperuser,
      survives,
    }),
    startRedis({ directory: serverFolder(directory, 'redis'), port: ports.redis, password: secrets.redis, survives }),
    startEtcd({ directory: serverFolder(directory, 'etcd'), port: ports.etcd, survives }),
  ]);
  for (const each of started) {
    if (each.status === 'fulfilled')
      say(`  ${each.value.name} on 127.0.0.1:${each.value.port}, process ${each.value.pid}`);
  }
  const failure = started.find((each) => each.status === 'rejected');
  if (failure) throw failure.reason;
}

function installMissing(say: (text: string) => void): void {
  const missing = missingPackages();
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0) {
    throw new AppError('config-invalid', `Only root can install ${missing.join(', ')}.`, {
      hint: 'Run: sudo ./scripts/run-dev.sh --install',
    });
  }
  say(`Installing ${missing.join(', ')}`);
  const { status } = spawnSync(join(import.meta.dirname, '..', 'install-packages.sh'), missing, { stdio: 'inherit' });
  if (status !== 0) throw new AppError('internal', `${missing.join(', ')} could not be installed.`);
}

function requireCompose(missing: readonly string[]): void {
  const found = findCompose();
  if (typeof found !== 'string') return;
  throw new AppError('config-invalid', `There are no servers to use: ${found}`, {
    hint:
      missing.length > 0
        ? `Install them: sudo ./scripts/run-dev.sh --install (or: sudo apt-get install ${missing.join(' ')})`
        : 'Leave out --docker.',
  });
}

async function startContainers({ directory, ports }: DevOptions, secrets: DevSecrets): Promise<void> {
  await mkdir(join(directory, 'docker'), { recursive: true, mode: 0o700 });
  const environment = {
    DEV_DIRECTORY: join(directory, 'docker'),
    POSTGRES_PORT: ports.postgres,
    REDIS_PORT: ports.redis,
    ETCD_PORT: ports.etcd,
    POSTGRES_PASSWORD: secrets.postgresSuperuser,
    REDIS_PASSWORD: secrets.redis,
  };
  const lines = Object.entries(environment).map(([name, value]) => `${name}=${value}\n`);
  await writeFile(composeEnvironment(directory), lines.join(''), { mode: 0o600 });
  compose(directory, ['up', '--detach']);
  await untilHealthy(compose(directory, ['ps', '--quiet'], 'pipe').split('\n').filter(Boolean));
}

/** @throws AppError `internal` when one of the containers ends, `deadline-exceeded` when one does not answer */
async function untilHealthy(ids: readonly string[]): Promise<void> {
  const until = systemClock.monotonic() + healthyMs;
  for (;;) {
    const format = '{{.Name}} {{.State.Status}} {{.State.Health.Status}}';
    const { status, stdout, stderr } = spawnSync('docker', ['inspect', '--format', format, ...ids], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new AppError('internal', `The containers of the servers cannot be seen. ${stderr.trim()}`);
    const states = stdout
      .trim()
      .split('\n')
      .map((line) => line.slice(1).split(' '));
    const waited =
      states.find(([, state]) => state !== 'running') ?? states.find(([, , health]) => health !== 'healthy');
    if (!waited) return;
    const [name, state] = waited;
    const hint = `See what it says: docker logs ${name}`;
    if (state !== 'running')
      throw new AppError('internal', `The server in the container ${name} is ${state}.`, { hint });
    if (systemClock.monotonic() > until) {
      throw new AppError('deadline-exceeded', `The server in the container ${name} does not answer.`, { hint });
    }
    await delay(systemClock, 250);
  }
}

/** A first start makes a database, on a slow disk perhaps. */
const healthyMs = 120_000;

const composeEnvironment = (directory: string): string => secretFile(directory, 'compose.env');

/** The command: that of Docker's plugin, or the program that was before it; or why containers cannot be used. */
function findCompose(): readonly [program: string, ...args: string[]] | string {
  const answers = ([program, ...args]: readonly string[]): boolean =>
    spawnSync(program!, args, { stdio: 'ignore' }).status === 0;
  if (!answers(['docker', 'info'])) return 'Docker does not answer.';
  const known = [['docker', 'compose'], ['docker-compose']] as const;
  return (
    known.find((command) => answers([...command, 'version'])) ??
    'There is neither the compose plugin of Docker nor docker-compose.'
  );
}

/** Answers what it prints, where that is not shown. */
function compose(directory: string, command: string[], output: 'inherit' | 'pipe' = 'inherit'): string {
  const found = findCompose();
  if (typeof found === 'string') throw new AppError('config-invalid', found);
  const [program, ...args] = found;
  // One for each folder.
  const project = `backend-ai-dev-${createHash('sha256').update(directory).digest('hex').slice(0, 8)}`;
  const files = ['--file', composeFile, '--env-file', composeEnvironment(directory)];
  const { status, stdout } = spawnSync(program, [...args, '--project-name', project, ...files, ...command], {
    stdio: ['inherit', output, 'inherit'],
    encoding: 'utf8',
  });
  if (status !== 0) throw new AppError('internal', `${found.join(' ')} ${command[0]} failed.`);
  return stdout ?? '';
}

/** Those of an earlier start would hold the ports. */
async function forgetContainers(directory: string): Promise<void> {
  if (typeof findCompose() !== 'string') compose(directory, ['down']);
  await rm(composeEnvironment(directory));
}

const usesContainers = (directory: string): boolean => existsSync(composeEnvironment(directory));

/** False when servers of this machine are used. */
export function showContainers({ directory }: DevOptions): boolean {
  if (!usesContainers(directory)) return false;
  compose(directory, ['ps']);
  return true;
}

export async function serverStates({ directory, ports }: DevOptions): Promise<ServerState[]> {
  return Promise.all(
    serverNames.map(async (name) => {
      const running = await runningIn(serverFolder(directory, name));
      return { name, port: running?.port ?? ports[name], pid: running?.pid };
    }),
  );
}

/** What containers have written belongs to users of theirs, who may remove it; those who reset may not. */
export function removeContainerData({ directory }: DevOptions): void {
  const data = join(directory, 'docker');
  if (!usesContainers(directory) || !existsSync(data) || typeof findCompose() === 'string') return;
  const inContainer = ['run', '--rm', '--no-deps', '--volume', `${data}:/data`, '--entrypoint', 'find', 'postgres'];
  compose(directory, [...inContainer, '/data', '-mindepth', '1', '-delete']);
  compose(directory, ['down']);
}

/** Names of what was stopped. */
export async function stopServers({ directory }: DevOptions): Promise<string[]> {
  if (usesContainers(directory) && typeof findCompose() !== 'string') compose(directory, ['down']);
  const stopped = await Promise.all(serverNames.map((name) => stopIn(serverFolder(directory, name))));
  return serverNames.filter((_, index) => stopped[index]);
}
