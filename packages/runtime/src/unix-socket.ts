import { closeSync, constants, openSync } from 'node:fs';
import type { Server } from 'node:net';
import { basename, dirname } from 'node:path';

/** sun_path holds 108 bytes with the closing NUL (unix(7)). */
const maxPathBytes = 107;

/**
 * Runs `use` with a path that names the same socket and fits into an address. A longer one is reached through the
 * descriptor of its folder.
 */
export function withSocketPath<T>(path: string, use: (shortPath: string) => T): T {
  if (Buffer.byteLength(path) <= maxPathBytes) return use(path);
  const folder = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return use(`/proc/self/fd/${folder}/${basename(path)}`);
  } finally {
    closeSync(folder);
  }
}

/** Listens on a socket file that only its owner may open, from the moment it is there. */
export function listenPrivately(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // The file is made in this turn. Longer, the mask would be that of whatever else the process makes.
    const previousMask = process.umask(0o177);
    try {
      withSocketPath(path, (shortPath) => server.listen(shortPath, resolve));
    } finally {
      process.umask(previousMask);
    }
  });
}
