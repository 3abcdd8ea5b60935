import { renameSync, rmSync, writeFileSync } from 'node:fs';

/** Readers see the old content or the new one, never a part. For files of the agent itself, in folders of its own. */
export function replaceFileSync(path: string, content: string): void {
  try {
    writeFileSync(`${path}.new`, content, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  } catch (error) {
    rmSync(`${path}.new`, { force: true });
    throw error;
  }
}
