import type { TestProject } from 'vitest/node';
// By its file: packages by name are those of the build here, which quick runs do without.
import { fastTempRoot, makeTempDirectory } from './src/temp-directory.ts';

/** Gives test processes a folder for their embedded databases, and removes it when they have ended. */
export default async function provideDirectory(project: TestProject): Promise<() => Promise<void>> {
  const directory = await makeTempDirectory(fastTempRoot());
  project.provide('embeddedDatabases', directory.path);
  return directory.remove;
}
