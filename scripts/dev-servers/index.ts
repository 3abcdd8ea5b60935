export { DevServer, type DevServerOptions, type RunningServer, runningIn, stopIn } from './dev-server.ts';
export { canStartEngine, DevEngine } from './docker-engine.ts';
export { type DockerRegistryOptions, startDockerRegistry } from './docker-registry.ts';
export { startEtcd } from './etcd.ts';
export { freePort, requirePort } from './ports.ts';
export { type PostgresOptions, startPostgres } from './postgres.ts';
export { findPrograms, missingPackages, type ServerPrograms, serverPackages } from './programs.ts';
export { type RedisOptions, startRedis } from './redis.ts';
