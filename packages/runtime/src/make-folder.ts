import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** A folder into which only its owner may look. Level by level: `recursive` never returns where nothing can be made, as below /proc. */
export function makeFolder(path: string): void {
  try {
    makeLevel(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(path) === path) throw error;
    makeFolder(dirname(path));
    makeLevel(path);
  }
}

/** Somebody else may have been quicker. */
function makeLevel(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !statSync(path).isDirectory()) throw error;
  }
}
