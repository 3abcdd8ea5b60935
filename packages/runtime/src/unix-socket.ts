import { closeSync, constants, openSync } from 'node:fs';
import type { Server } from 'node:net';
import { basename, dirname } from 'node:path';
import { AppError } from '@backend.ai/core';

/** sun_path holds 108 bytes with the closing NUL (unix(7)). */
const maxPathBytes = 107;

/**
 * Runs `use` with a path that names the same socket and fits into an address. A longer one is reached through the
 * descriptor of its folder.
 * @throws AppError `config-invalid` when its name alone is too long: the system would cut it off, and mean another one
 */
export function withSocketPath<T>(path: string, use: (shortPath: string) => T): T {
  if (Buffer.byteLength(path) <= maxPathBytes) return use(path);
  const folder = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const short = `/proc/self/fd/${folder}/${basename(path)}`;
    if (Buffer.byteLength(short) > maxPathBytes) {
      throw new AppError('config-invalid', `The name of the socket ${path} is too long.`, {
        hint: 'Choose a shorter name for its folder or file.',
      });
    }
    return use(short);
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
