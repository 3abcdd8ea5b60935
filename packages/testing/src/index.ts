export { type CollectedLogs, collectLogs, type LogRecord } from './collect-logs.ts';
export { createDomain, createKeypair, createProject, createTenant, createUser, type Tenant } from './factories.ts';
export { FakeClock } from './fake-clock.ts';
export { makeTempDirectory, type TempDirectory, tempDirectory } from './temp-directory.ts';
export { migratedTemplate, testDatabase } from './test-database.ts';
export { type WaitOptions, waitFor } from './wait-for.ts';
