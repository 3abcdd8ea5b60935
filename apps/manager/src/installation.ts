import { type Clock, systemClock } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import type { PeerIdentity } from '@backend.ai/rpc';
import type { Logger } from '@backend.ai/telemetry';
import { FixtureRepository } from './repositories/fixtures.ts';
import { InstallationRepository } from './repositories/installation.ts';
import { PeerRepository } from './repositories/peers.ts';
import { FixtureService } from './services/fixtures/fixture-service.ts';
import { InstallationService } from './services/installation/installation-service.ts';
import { openSecretBox } from './services/keypairs/secret-box.ts';
import { PeerService } from './services/peers/peer-service.ts';

export interface InstallationOptions {
  /** Migrated. */
  readonly database: Database;
  readonly installationKeyFile: string;
  readonly adminEmail: string;
  /** Of kind `manager`: tokens name its key. */
  readonly identity: PeerIdentity;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export interface Installation {
  readonly fixtures: FixtureService;
  readonly peers: PeerService;
}

/**
 * What is done on the stores of an installation before its first manager starts: rows to begin with, and tokens to join.
 * @throws AppError `config-invalid` for a key file that cannot be used
 */
export async function openInstallation(options: InstallationOptions): Promise<Installation> {
  const { database, identity, logger, adminEmail } = options;
  const box = await openSecretBox(options.installationKeyFile);
  const installation = new InstallationService(new InstallationRepository(database), box, adminEmail, logger);
  return {
    fixtures: new FixtureService(new FixtureRepository(database), installation, box),
    peers: new PeerService(new PeerRepository(database), identity, options.clock ?? systemClock, logger),
  };
}
