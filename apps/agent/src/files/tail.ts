import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { at } from './safe-open.ts';

/** The last bytes of a regular file in a folder that a stranger writes to; empty when there is none. */
export function readTail(folder: string, name: string, maxBytes: number): Buffer {
  let folderFd: number | undefined;
  let fd: number | undefined;
  try {
    folderFd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    fd = openSync(at(folderFd, name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.nlink > 1) return Buffer.alloc(0);
    const tail = Buffer.alloc(Math.min(stat.size, maxBytes));
    const count = readSync(fd, tail, 0, tail.length, stat.size - tail.length);
    return tail.subarray(0, count);
  } catch {
    return Buffer.alloc(0);
  } finally {
    if (fd !== undefined) closeSync(fd);
    if (folderFd !== undefined) closeSync(folderFd);
  }
}
