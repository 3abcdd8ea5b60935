import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { renderSample } from '@backend.ai/runtime';
import { configurations } from '../write-configs.ts';
import { databaseNames, databaseUser } from './databases.ts';
import type { DevOptions } from './options.ts';
import { secretFile } from './secrets.ts';

/** What differs from the defaults in development, by component and key. */
function developmentValues({ directory, ports }: DevOptions): Record<string, Record<string, unknown>> {
  const folder = (name: string): string => join(directory, name);
  return {
    manager: {
      'manager.data-dir': folder('manager'),
      'database.port': ports.postgres,
      'database.name': databaseNames.manager,
      'database.user': databaseUser,
      'database.password-file': secretFile(directory, 'postgres'),
      'redis.url-file': secretFile(directory, 'redis-url'),
      'etcd.endpoints': [`http://127.0.0.1:${ports.etcd}`],
    },
    agent: {
      'agent.data-dir': folder('agent'),
      'manager.join-token-file': secretFile(directory, 'agent-join-token'),
    },
    'storage-proxy': { 'storage-proxy.data-dir': folder('storage-proxy') },
    web: { 'redis.url-file': secretFile(directory, 'redis-url') },
    'app-proxy-coordinator': {
      'coordinator.data-dir': folder('app-proxy-coordinator'),
      'database.port': ports.postgres,
      'database.name': databaseNames.appProxy,
      'database.user': databaseUser,
      'database.password-file': secretFile(directory, 'postgres'),
      'redis.url-file': secretFile(directory, 'redis-url'),
    },
    'app-proxy-worker': {
      'worker.data-dir': folder('app-proxy-worker'),
      'redis.url-file': secretFile(directory, 'redis-url'),
    },
  };
}

export function configFile({ configs }: DevOptions, component: string): string {
  return join(configs, `${component}.toml`);
}

/** Makes the configurations that are missing; answers their files. One that is there is somebody's own. */
export async function ensureConfigs(options: DevOptions): Promise<string[]> {
  await mkdir(options.configs, { recursive: true });
  const values = developmentValues(options);
  const missing = configurations.filter(({ component }) => !existsSync(configFile(options, component)));
  return Promise.all(
    missing.map(async (definition) => {
      const file = configFile(options, definition.component);
      await writeFile(file, renderSample(definition, values[definition.component]), { mode: 0o600, flag: 'wx' });
      return file;
    }),
  );
}
