import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WorkerEngine } from './worker-engine.ts';

/** Where the build puts the migrated template, if it was built: beside this file in `dist`, or seen from `src`. */
export function defaultTemplateDirectory(): string | undefined {
  return ['./template', '../dist/template']
    .map((path) => fileURLToPath(new URL(path, import.meta.url)))
    .find((path) => isDataDirectory(path));
}

export function isDataDirectory(directory: string): boolean {
  return existsSync(join(directory, 'PG_VERSION'));
}

/**
 * Makes `dataDir` a PostgreSQL data directory unless it is one: a copy of the template, or a fresh one (ten times
 * slower). Whatever is made is made in a sibling and renamed, so that a crash leaves either nothing or all of it.
 * The caller holds the lock of `dataDir`.
 */
export async function prepareDataDirectory(
  dataDir: string,
  templateDir: string | undefined,
  workerUrl?: URL,
): Promise<void> {
  const parent = dirname(dataDir);
  const draftPrefix = `${basename(dataDir)}.draft-`;
  await mkdir(parent, { recursive: true });
  for (const name of await readdir(parent)) {
    if (name.startsWith(draftPrefix)) await rm(join(parent, name), { recursive: true, force: true });
  }
  if (isDataDirectory(dataDir)) return;

  const draft = join(parent, `${draftPrefix}${randomBytes(4).toString('hex')}`);
  if (templateDir !== undefined && isDataDirectory(templateDir)) {
    await cp(templateDir, draft, { recursive: true });
  } else {
    const engine = await WorkerEngine.start(draft, workerUrl);
    await engine.close();
  }
  // Replaces an empty directory; one with other things in it is not ours, and the rename fails.
  await rename(draft, dataDir);
}
