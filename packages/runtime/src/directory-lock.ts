import { mkdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { AppError, delay, systemClock } from '@backend.ai/core';
import { identifyProcess, isProcessAlive, type ProcessIdentity } from './process-identity.ts';
import { socketFolder } from './socket-folder.ts';
import { type Listener, takeSocketLock } from './socket-lock.ts';

export interface DirectoryLock {
  readonly directory: string;
  release(): Promise<void>;
}

/** Whether a file of this name in a directory is one by which it is, or was, locked. */
export const isLockFile = (name: string): boolean => /^lock\.(\d+\.sock|draft-[0-9a-f]+\.sock|pid(\.\d+)?)$/.test(name);

/** How long a killed owner may take to vanish, in milliseconds. */
const dyingOwnerMs = 10_000;

/**
 * Makes this process the only user of a directory (made if absent), because two PGlite instances on one directory
 * corrupt each other silently.
 *
 * What decides is a unix socket in the directory (`takeSocketLock`), which sessions cannot reach: they may see the
 * machine's network, but not into this folder. A pid file names the owner. One whose very process lives is believed
 * even if nobody listens: it is of a version that locked in another way.
 *
 * @throws AppError `data-directory-locked`, naming the owner's pid where it is known
 */
export async function lockDirectory(
  directory: string,
  options: {
    /** The files of the lock lie beside the directory, whose content is somebody else's. */
    readonly beside?: boolean;
  } = {},
): Promise<DirectoryLock> {
  await mkdir(directory, { recursive: true });
  const path = await realpath(directory);
  const base = options.beside ? path : join(path, 'lock');
  const pidFile = `${base}.pid`;

  const listener = await takeSocket(path, base, pidFile);
  const owner = await readOwner(pidFile);
  if (owner && owner.pid !== process.pid && isProcessAlive(owner)) {
    await listener.close();
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
      released ??= rm(pidFile, { force: true }).then(() => listener.close());
      return released;
    },
  };
}

/**
 * A killed owner holds its sockets until the last of its threads has ended, which takes a while with much memory: such
 * a one is waited for, a living one is not.
 */
async function takeSocket(path: string, base: string, pidFile: string): Promise<Listener> {
  const end = systemClock.monotonic() + dyingOwnerMs;
  for (;;) {
    const listener = await takeSocketLock(socketFolder(dirname(base)), basename(base));
    if (listener !== 'taken') return listener;
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
