import { existsSync } from 'node:fs';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TempDirectory {
  readonly path: string;
  remove(): Promise<void>;
}

/** A directory in memory where the system has one: databases of tests are a thousand files and live a second. */
export function fastTempRoot(): string {
  return existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
}

/** A new empty directory with a short path (unix sockets inside must stay below 108 bytes). */
export async function makeTempDirectory(root: string = tmpdir()): Promise<TempDirectory> {
  const path = await mkdtemp(join(await realpath(root), 'bai-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** The same inside a test, removed when the test ends. */
export async function tempDirectory(): Promise<string> {
  // Loaded here only: outside of test runs (benchmarks) vitest cannot be imported.
  const { onTestFinished } = await import('vitest');
  const directory = await makeTempDirectory();
  onTestFinished(directory.remove);
  return directory.path;
}
