/** The work of scripts/run-dev.sh, whose head says what it does. */
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { AppError, hasCode } from '@backend.ai/core';
import { lockDirectory } from '@backend.ai/runtime';
import { runMain } from '../run-main.ts';
import { configFile, ensureConfigs } from './configs.ts';
import { ensureDatabases } from './databases.ts';
import { prepareInstallation } from './installation.ts';
import { endKernels } from './kernels.ts';
import { type DevOptions, readOptions } from './options.ts';
import { configuredPorts, requireAgreement } from './ports.ts';
import { ensureSecrets, writeRedisUrl } from './secrets.ts';
import {
  chooseServers,
  removeContainerData,
  serverStates,
  showContainers,
  startServers,
  stopServers,
} from './servers.ts';

const say = (text: string): void => console.log(text);
const shown = (path: string): string => relative(process.cwd(), path) || '.';

async function start(options: DevOptions): Promise<void> {
  const managerFile = configFile(options, 'manager');
  requireAgreement(options, shown(managerFile), await configuredPorts(managerFile));
  const kind = await chooseServers(options, say);
  // Nothing was written until here: whoever is refused finds everything as it was.
  const secrets = await ensureSecrets(options);
  await startServers(kind, options, secrets, say);
  await writeRedisUrl(options, secrets);
  await ensureDatabases(options, secrets);
  for (const file of await ensureConfigs(options)) say(`Made ${shown(file)}`);
  const { migrations, credentials, newToken } = await prepareInstallation(options);
  say(migrations.length > 0 ? `Migrated: ${migrations.join(', ')}` : 'Database: up to date');
  for (const { email, role, accessKey, secretKey } of credentials) {
    say(`${role} ${email}\n  BACKEND_ACCESS_KEY=${accessKey}\n  BACKEND_SECRET_KEY=${secretKey}`);
  }
  if (newToken) say('The agent has a new join token');
  const components = { mgr: 'manager', ag: 'agent' };
  const commands = Object.entries(components).map(([command, component]) => {
    const file = shown(configFile(options, component));
    const config = file === join('configs', `${component}.toml`) ? '' : ` --config ${file}`;
    return `  ./backend.ai ${command} start-server${config}\n`;
  });
  say(`\nNow, in a terminal each:\n${commands.join('')}`.trimEnd());
}

async function status(options: DevOptions): Promise<void> {
  if (showContainers(options)) return;
  const states = await serverStates(options);
  for (const { name, port, pid } of states) {
    say(`${name.padEnd(9)} ${pid === undefined ? 'stopped' : `running on 127.0.0.1:${port}, process ${pid}`}`);
  }
  if (states.some(({ pid }) => pid === undefined)) process.exitCode = 1;
}

async function stop(options: DevOptions): Promise<void> {
  const stopped = await stopServers(options);
  say(stopped.length > 0 ? `Stopped: ${stopped.join(', ')}` : 'Nothing was running');
}

async function reset(options: DevOptions): Promise<void> {
  for (const name of ['manager', 'agent']) await requireEnded(name, join(options.directory, name));
  const ended = await endKernels(options);
  if (ended > 0) say(`Ended kernels that the agent had left running: ${ended}`);
  await stop(options);
  removeContainerData(options);
  // Not the whole folder: other things of development lie there, too.
  const folders = ['postgres', 'redis', 'etcd', 'docker', 'secrets', 'manager', 'agent'];
  for (const name of folders) await remove(join(options.directory, name));
  say(`Removed from ${shown(options.directory)}: ${folders.join(', ')}`);
}

async function remove(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'EACCES' && cause.code !== 'EPERM') throw cause;
    const hint = `Remove it, and reset again: sudo rm -r ${shown(folder)}`;
    throw new AppError('state-conflict', `${shown(folder)} has files of other users.`, { hint, cause });
  });
}

/** Whose folder goes must not run. */
async function requireEnded(name: string, folder: string): Promise<void> {
  if (!existsSync(folder)) return;
  try {
    await (await lockDirectory(folder)).release();
  } catch (cause) {
    if (!hasCode(cause, 'data-directory-locked')) throw cause;
    const { pid } = cause.data ?? {};
    const hint = `End it first: Ctrl-C in its terminal${pid === undefined ? '' : `, or kill ${pid}`}`;
    throw new AppError('state-conflict', `The ${name} still runs: ${cause.message}`, { hint, cause });
  }
}

const actions = { start, status, stop, reset };

async function main(): Promise<void> {
  const options = await readOptions(process.argv.slice(2));
  // Programs of kernels pass through it on the way to their folders; each folder in it is private.
  await mkdir(options.directory, { recursive: true, mode: 0o711 });
  const lock = await lockDirectory(options.directory);
  try {
    await actions[options.action](options);
  } finally {
    await lock.release();
  }
}

await runMain(main);
