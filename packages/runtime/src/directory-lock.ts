import { createHash } from 'node:crypto';
import { mkdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { AppError, delay, systemClock } from '@backend.ai/core';
import { identifyProcess, isProcessAlive, type ProcessIdentity } from './process-identity.ts';

export interface DirectoryLock {
  readonly directory: string;
  release(): Promise<void>;
}

/** How long a killed owner may take to vanish, in milliseconds. */
const dyingOwnerMs = 10_000;

/**
 * Makes this process the only user of a directory (made if absent), because two PGlite instances on one directory
 * corrupt each other silently.
 *
 * Two locks together: an abstract unix socket named after the directory, which the kernel frees when its owner dies in
 * whatever way, and a pid file. Abstract sockets live in the network namespace, so a process in another one is only
 * seen by the pid file; a pid file counts only while the very process that wrote it lives, so one that a killed owner
 * left behind refuses nobody. Containers that share a volume but neither namespace are not told apart: do not do that.
 * Where abstract sockets do not exist (not Linux) the pid file stands alone.
 *
 * @throws AppError `data-directory-locked`, naming the owner's pid where it is known
 */
export async function lockDirectory(
  directory: string,
  options: { /** `lock.pid` inside the directory when absent. */ readonly pidFile?: string } = {},
): Promise<DirectoryLock> {
  await mkdir(directory, { recursive: true });
  const path = await realpath(directory);
  const pidFile = options.pidFile ?? join(path, 'lock.pid');

  const server = process.platform === 'linux' ? await takeSocket(path, pidFile) : undefined;
  const owner = await readOwner(pidFile);
  if (owner && owner.pid !== process.pid && isProcessAlive(owner)) {
    server?.close();
    throw lockedError(path, owner.pid);
  }

  const self = identifyProcess(process.pid);
  // Renamed into place, so that a reader never meets half a file.
  const draft = `${pidFile}.${process.pid}`;
  await writeFile(draft, `${JSON.stringify(self)}\n`, { mode: 0o600 });
  await rename(draft, pidFile);

  let released: Promise<void> | undefined;
  return {
    directory: path,
    release: () => {
      released ??= rm(pidFile, { force: true }).then(() => closeServer(server));
      return released;
    },
  };
}

/**
 * A killed owner holds its sockets until the last of its threads has ended, which takes a while with much memory: such
 * a one is waited for, a living one is not.
 */
async function takeSocket(path: string, pidFile: string): Promise<Server> {
  const end = systemClock.monotonic() + dyingOwnerMs;
  for (;;) {
    const server = await listenAbstract(path);
    if (server !== 'taken') return server;
    const owner = await readOwner(pidFile);
    if (!owner || isProcessAlive(owner) || systemClock.monotonic() > end) throw lockedError(path, owner?.pid);
    await delay(systemClock, 10);
  }
}

function lockedError(directory: string, pid: number | undefined): AppError {
  const by = pid === undefined ? 'another process' : `process ${pid}`;
  return new AppError('data-directory-locked', `The data directory ${directory} is in use by ${by}.`, {
    data: { directory, ...(pid === undefined ? {} : { pid }) },
  });
}

function listenAbstract(path: string): Promise<Server | 'taken'> {
  const name = createHash('sha256').update(path).digest('hex').slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve('taken');
      else reject(error);
    });
    server.listen(`\0backend.ai-lock-${name}`, () => {
      server.unref();
      resolve(server);
    });
  });
}

function closeServer(server: Server | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (server) server.close(() => resolve());
    else resolve();
  });
}

async function readOwner(pidFile: string): Promise<ProcessIdentity | undefined> {
  try {
    const owner: unknown = JSON.parse(await readFile(pidFile, 'utf8'));
    if (typeof owner === 'object' && owner !== null && Number.isInteger((owner as ProcessIdentity).pid))
      return owner as ProcessIdentity;
  } catch {
    // Absent or unreadable: it names nobody, and is replaced.
  }
  return undefined;
}
