import { renameSync, writeFileSync } from 'node:fs';

/** Readers see the old content or the new one, never a part. For files of the agent itself, in folders of its own. */
export function replaceFileSync(path: string, content: string): void {
  writeFileSync(`${path}.new`, content, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
