import { closeSync, constants, openSync } from 'node:fs';
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
