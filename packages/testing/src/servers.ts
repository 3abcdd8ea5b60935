import type { ProvidedContext } from 'vitest';

/** Servers of the vitest project `servers`, shared by its files: make databases, prefixes and keys of your own in them. */
export interface TestServers {
  readonly postgresUrl: string;
  readonly redisUrl: string;
  readonly etcdUrl: string;
}

declare module 'vitest' {
  interface ProvidedContext {
    servers: TestServers;
    /** Folder for embedded databases that outlive the file of tests they were made for, and not the run. */
    embeddedDatabases: string;
  }
}

/** Undefined in the other projects, and outside of test runs. */
export function providedServers(): Promise<TestServers | undefined> {
  return provided('servers');
}

/** What a global set-up gave to the project of this test; undefined in the other projects, and outside of test runs. */
export async function provided<K extends keyof ProvidedContext>(key: K): Promise<ProvidedContext[K] | undefined> {
  if (!process.env.VITEST) return undefined;
  // Loaded here only: outside of test runs (benchmarks) vitest cannot be imported.
  const { inject } = await import('vitest');
  return inject(key);
}
