import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { managerMigrations, migrate, migrationDeadlines, openPostgres } from '@backend.ai/database';
import { defaultFixture, type FixtureCredentials, openInstallation } from '@backend.ai/manager';
import { loadOrCreateIdentity } from '@backend.ai/rpc';
import { loadConfig } from '@backend.ai/runtime';
import { ensureRequestId, silentLogger } from '@backend.ai/telemetry';
import { managerConfiguration, managerServerOptions } from '../../apps/manager/src/server-config.ts';
import { configFile } from './configs.ts';
import type { DevOptions } from './options.ts';
import { secretFile } from './secrets.ts';

export interface Prepared {
  /** Names of the migrations that were applied now. */
  readonly migrations: readonly string[];
  readonly credentials: readonly FixtureCredentials[];
  /** Whether the agent got a new token: it has not joined yet. */
  readonly newToken: boolean;
}

/** Development goes on after a holiday. */
const tokenTtlMs = 14 * 24 * 3_600_000;

/** Migrates and fills the database that the manager's configuration names, and lets the agent join. */
export function prepareInstallation(options: DevOptions): Promise<Prepared> {
  return ensureRequestId(async () => {
    const file = configFile(options, 'manager');
    const { values } = loadConfig(managerConfiguration, { file, env: process.env, cwd: process.cwd() });
    const { config, database, identityFile } = managerServerOptions(values);
    await mkdir(values.manager.dataDir, { recursive: true, mode: 0o700 });
    const handle = await openPostgres({ url: database.url.reveal(), maxConnections: 2 });
    try {
      const migrations = await migrate(handle.withDeadlines(migrationDeadlines), { directory: managerMigrations });
      const installation = openInstallation({
        database: handle.db,
        installationKeyFile: config.installationKeyFile,
        adminEmail: values.manager.adminEmail,
        logger: silentLogger,
      });
      const credentials = await installation.fixtures.populate(defaultFixture);
      const tokenFile = secretFile(options.directory, 'agent-join-token');
      const joined = existsSync(join(options.directory, 'agent', 'keys', 'agent.pem')) && existsSync(tokenFile);
      if (!joined) {
        // The token names the manager before its first start.
        const identity = await loadOrCreateIdentity(identityFile, 'manager', config.managerId ?? 'manager');
        await installation.peers.registerManager(identity);
        const { token } = await installation.peers.createToken({ kind: 'agent', ttlMs: tokenTtlMs });
        await writeFile(tokenFile, token, { mode: 0o600 });
      }
      return { migrations, credentials, newToken: !joined };
    } finally {
      await handle.close();
    }
  });
}
