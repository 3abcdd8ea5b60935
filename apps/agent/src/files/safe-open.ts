import { closeSync, constants, fchownSync, fstatSync, mkdirSync, openSync, type Stats } from 'node:fs';
import { AppError } from '@backend.ai/core';
import { invalidPath } from './home-path.ts';

/**
 * Opening below a folder that a stranger writes to while we look.
 *
 * Node has no openat(2); `/proc/self/fd/N/name` does the same: N is followed to the very folder that is open, and
 * O_NOFOLLOW holds for the one name behind it. Each name of a path is opened from the descriptor of the one before, so a
 * folder that becomes a link in between changes nothing.
 */

export function at(folderFd: number, name: string): string {
  return `/proc/self/fd/${folderFd}/${name}`;
}

export const folderFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** O_PATH: the thing itself, without opening it. Linux; not among Node's constants. */
export const pathOnly = 0o10000000;

export interface MissingFolders {
  /** Who owns the folders made on the way; null: whoever this process is. */
  readonly owner: number | null;
}

/**
 * A descriptor of the folder that `names` lead to; the caller closes it. Missing ones are made when `make` is given.
 * @throws AppError `invalid-path`, `file-not-found`
 */
export function openFolder(root: string, names: readonly string[], make?: MissingFolders): number {
  let fd = openSync(root, folderFlags);
  try {
    for (const name of names) {
      const next = openOne(fd, name, names, make);
      closeSync(fd);
      fd = next;
    }
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** One folder below an open one. */
export function openFolderAt(folderFd: number, name: string): number {
  return openSync(at(folderFd, name), folderFlags);
}

function openOne(fd: number, name: string, names: readonly string[], make: MissingFolders | undefined): number {
  try {
    return openFolderAt(fd, name);
  } catch (error) {
    if (!make || (error as NodeJS.ErrnoException).code !== 'ENOENT') throw pathError(names, error);
  }
  try {
    mkdirSync(at(fd, name), { mode: 0o755 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw pathError(names, error);
  }
  try {
    const made = openFolderAt(fd, name);
    if (make.owner !== null) fchownSync(made, make.owner, make.owner);
    return made;
  } catch (error) {
    throw pathError(names, error);
  }
}

export interface OpenFile {
  readonly fd: number;
  readonly stat: Stats;
}

/**
 * A regular file for reading; the caller closes it. Pipes and devices are refused and never waited for.
 * @param owner A user id; a file of somebody else with several names could be one from outside.
 * @throws AppError `invalid-path`, `file-not-found`
 */
export function openFile(folderFd: number, name: string, names: readonly string[], owner: number | null): OpenFile {
  let fd: number;
  try {
    fd = openSync(
      at(folderFd, name),
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY,
    );
  } catch (error) {
    throw pathError(names, error);
  }
  const stat = fstatSync(fd);
  const foreign = owner !== null && stat.nlink > 1 && stat.uid !== owner;
  if (stat.isFile() && !foreign) return { fd, stat };
  closeSync(fd);
  throw invalidPath(names.join('/'), stat.isDirectory() ? 'is a folder' : 'is not a regular file');
}

/** What the system said about a path, for people. */
export function pathError(names: readonly string[], error: unknown): AppError {
  if (error instanceof AppError) return error;
  const path = names.join('/') || '.';
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return new AppError('file-not-found', `"${path.slice(0, 200)}" does not exist.`, { cause: error });
    case 'ELOOP':
    case 'EMLINK':
      return invalidPath(path, 'leads through a symbolic link', error);
    case 'ENOTDIR':
      return invalidPath(path, 'leads through something that is not a folder', error);
    case 'EISDIR':
    case 'ENOTEMPTY':
    case 'EEXIST':
      return invalidPath(path, 'is a folder', error);
    case 'ENXIO':
      return invalidPath(path, 'is not a regular file', error);
    case 'EACCES':
    case 'EPERM':
      return invalidPath(path, 'may not be accessed', error);
    case 'ENAMETOOLONG':
      return invalidPath(path, 'is too long', error);
    case 'ENOSPC':
    case 'EDQUOT':
      return new AppError('disk-full', 'The disk of the agent is full.', { cause: error });
    default:
      return AppError.from(error);
  }
}
