import { closeSync, constants, type Dir, fstatSync, lstatSync, opendirSync, openSync } from 'node:fs';
import { nextTurn } from '@backend.ai/core';
import { at, openFolderAt } from './safe-open.ts';

export interface FolderSizeLimits {
  /** Larger trees have no size here. */
  readonly entries: number;
  readonly depth: number;
}

/** Entries that are looked at before other work gets its turn. */
const portion = 100;

/**
 * What the files below a folder take on its disk, in bytes. A stranger may write to it meanwhile: links are not followed,
 * other file systems are left out, and a file with several names counts once. The files may be anywhere by the
 * time that the answer is there.
 * Null: there is no such folder, it is too large to be looked through, or the signal aborted.
 */
export async function folderSize(path: string, limits: FolderSizeLimits, signal: AbortSignal): Promise<number | null> {
  const open: Array<{ readonly fd: number; readonly entries: Dir }> = [];
  const enter = (fd: number): void => {
    try {
      open.push({ fd, entries: opendirSync(`/proc/self/fd/${fd}`, { bufferSize: portion }) });
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  };
  const seen = new Set<number>();
  let [bytes, looked] = [0, 0];
  try {
    enter(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW));
    const { dev } = fstatSync(open[0]?.fd ?? -1);
    for (let folder = open.at(-1); folder; folder = open.at(-1)) {
      const entry = folder.entries.readSync();
      if (entry === null) {
        leave(open.pop());
        continue;
      }
      if (++looked > limits.entries) return null;
      if (looked % portion === 0) await nextTurn();
      if (signal.aborted) return null;
      const stat = lookAt(folder.fd, entry.name);
      if (!stat || stat.dev !== dev || (stat.nlink > 1 && !stat.isDirectory() && seen.has(stat.ino))) continue;
      if (stat.nlink > 1 && !stat.isDirectory()) seen.add(stat.ino);
      bytes += stat.blocks * 512;
      if (!stat.isDirectory()) continue;
      if (open.length >= limits.depth) return null;
      try {
        enter(openFolderAt(folder.fd, entry.name));
      } catch {
        // It went away, or became a link.
      }
    }
    return bytes;
  } catch {
    return null;
  } finally {
    for (const folder of open) leave(folder);
  }
}

function leave(folder: { readonly fd: number; readonly entries: Dir } | undefined): void {
  folder?.entries.closeSync();
  if (folder) closeSync(folder.fd);
}

function lookAt(folderFd: number, name: string) {
  return lstatSync(at(folderFd, name), { throwIfNoEntry: false });
}
