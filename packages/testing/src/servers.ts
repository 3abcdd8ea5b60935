/** Servers of the vitest project `servers`, shared by its files: make databases, prefixes and keys of your own in them. */
export interface TestServers {
  readonly postgresUrl: string;
  readonly redisUrl: string;
  readonly etcdUrl: string;
}

declare module 'vitest' {
  interface ProvidedContext {
    servers: TestServers;
  }
}

/** Undefined in the other projects, and outside of test runs. */
export async function providedServers(): Promise<TestServers | undefined> {
  if (!process.env.VITEST) return undefined;
  // Loaded here only: outside of test runs (benchmarks) vitest cannot be imported.
  const { inject } = await import('vitest');
  return inject('servers');
}
