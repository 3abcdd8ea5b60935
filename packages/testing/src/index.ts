export { testCertificate } from './certificate.ts';
export { type CollectedLogs, collectLogs, type LogRecord } from './collect-logs.ts';
export {
  type EngineRemains,
  engineRemains,
  engineSocket,
  removeEngineRemains,
  removeImages,
} from './container-engine.ts';
export { createDomain, createKeypair, createProject, createTenant, createUser, type Tenant } from './factories.ts';
export { FakeClock } from './fake-clock.ts';
export {
  emptyLayer,
  type ImageSpec,
  type PushedImage,
  type RegistryAccess,
  RegistryPusher,
} from './registry-images.ts';
export { providedServers, type TestServers } from './servers.ts';
export { type SmallDisk, smallDisk, smallDiskForAll, smallDiskMissing } from './small-disk.ts';
export { makeTempDirectory, type TempDirectory, tempDirectory } from './temp-directory.ts';
export { migratedTemplate, type PostgresDatabase, postgresDatabase, testDatabase } from './test-database.ts';
export { type WaitOptions, waitFor } from './wait-for.ts';
