import { createHash } from 'node:crypto';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { runnerFiles } from './runner-command.ts';

/**
 * A copy of the runner's files that every kernel may read, whatever the rights of the installation. Kernels of an earlier
 * version keep the copy they were started with.
 */
export function installRunner(dataDir: string): string {
  const source = runnerFiles();
  const files = readdirSync(source).filter((name) => /\.(py|cjs|js|mjs)$/.test(name));
  const hash = createHash('sha256');
  for (const name of files.sort())
    hash
      .update(`${name}\0`)
      .update(readFileSync(join(source, name)))
      .update('\0');
  const folder = join(dataDir, `runner-${hash.digest('hex').slice(0, 12)}`);
  if (!existsSync(folder)) {
    const draft = `${folder}.${process.pid}`;
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(draft, { recursive: true });
    for (const name of files) {
      cpSync(join(source, name), join(draft, name));
      chmodSync(join(draft, name), 0o644);
    }
    chmodSync(draft, 0o755);
    renameSync(draft, folder);
  }
  return folder;
}
