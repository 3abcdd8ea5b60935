import { existsSync, readdirSync } from 'node:fs';
import { AppError } from '@backend.ai/core';
import type { ClusterLayout } from './cluster-layout.ts';
import { isLockFile } from './directory-lock.ts';
import { makeFolder } from './make-folder.ts';

/**
 * Makes the data directory of an embedded cluster, unless it is there. Nothing is written where somebody else's things lie.
 * @throws AppError `config-invalid` when it cannot be made, or when something else than a cluster's data lies there
 */
export function makeClusterFolder(layout: ClusterLayout): void {
  const { root } = layout;
  try {
    makeFolder(root);
    if (isOurs(layout)) return;
  } catch (cause) {
    throw dataDirectoryFailure(root, cause);
  }
  throw new AppError('config-invalid', `${root} holds something else than the data of a cluster.`, {
    hint: 'Name an empty folder, or one that is not there yet, with --data-dir.',
  });
}

/** What kept a data directory from being made, as ours. */
export function dataDirectoryFailure(root: string, cause: unknown): AppError {
  if (cause instanceof AppError) return cause;
  const { code = '', message } = cause as NodeJS.ErrnoException;
  return new AppError('config-invalid', `${root} cannot be the data directory: ${sayings[code] ?? message}.`, {
    hint: 'Name a folder that you may write to with --data-dir (or $BACKEND_DATA_DIR).',
    cause,
  });
}

const sayings: Readonly<Record<string, string>> = {
  EACCES: 'you may not write there',
  EPERM: 'it belongs to somebody else',
  EEXIST: 'it is no folder',
  ENOTDIR: 'part of the path is no folder',
  EROFS: 'the file system is read-only',
  ENOENT: 'nothing can be made there',
};

/** What may lie there before the first key does. */
const early: ReadonlySet<string> = new Set(['keys', 'logs', 'run', 'agent', 'database']);

/** Empty, a cluster's, or what a start or a restore that ended early left there: a start makes `keys` first, a restore the lock. */
function isOurs({ root, keyFiles }: ClusterLayout): boolean {
  const entries = readdirSync(root).filter((name) => name !== 'lost+found');
  if (entries.length === 0 || Object.values(keyFiles).some((file) => existsSync(file))) return true;
  const isMarked = entries.includes('keys') || entries.some((name) => isLockFile(name) && name.endsWith('.sock'));
  return isMarked && entries.every((name) => early.has(name) || isLockFile(name));
}
