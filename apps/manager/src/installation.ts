import { existsSync } from 'node:fs';
import { AppError, type Clock, systemClock } from '@backend.ai/core';
import { type Database, managerMigrations, migrationStatus } from '@backend.ai/database';
import type { Logger } from '@backend.ai/telemetry';
import { FixtureRepository } from './repositories/fixtures.ts';
import { InstallationRepository } from './repositories/installation.ts';
import { KeypairRepository } from './repositories/keypairs.ts';
import { PeerRepository } from './repositories/peers.ts';
import { FixtureService } from './services/fixtures/fixture-service.ts';
import { InstallationService } from './services/installation/installation-service.ts';
import { makeSecretBox, openSecretBox, type SecretBox } from './services/keypairs/secret-box.ts';
import { PeerService } from './services/peers/peer-service.ts';

export interface InstallationOptions {
  /** Migrated. */
  readonly database: Database;
  readonly installationKeyFile: string;
  readonly adminEmail: string;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export interface Installation {
  /** Opens the installation key when it is used, and makes it for an installation that has none. */
  readonly fixtures: Pick<FixtureService, 'populate'>;
  readonly peers: PeerService;
}

/** What is done on the stores of an installation, also before its first manager starts. */
export function openInstallation(options: InstallationOptions): Installation {
  const { database, installationKeyFile, logger, adminEmail } = options;
  return {
    fixtures: {
      async populate(fixture) {
        const box = await openInstallationKey(database, installationKeyFile);
        const installation = new InstallationService(new InstallationRepository(database), box, adminEmail, logger);
        return await new FixtureService(new FixtureRepository(database), installation, box).populate(fixture);
      },
    },
    peers: new PeerService(new PeerRepository(database), options.clock ?? systemClock, logger),
  };
}

/**
 * The key under which the secrets of this database are encrypted. It is made while there are none.
 * @throws AppError `config-invalid` when the file has not the key of this database
 */
export async function openInstallationKey(database: Database, file: string): Promise<SecretBox> {
  const secret = await new KeypairRepository(database).anySecret();
  if (secret === undefined) return await makeSecretBox(file);
  const box = await openSecretBox(file);
  box.decrypt(secret.secretKeyEncrypted, secret.accessKey);
  return box;
}

/**
 * Whether a manager with this file could start on this database, and nothing more: makes no file.
 * @throws AppError `config-invalid` when the file has not the key of this database
 */
export async function examineInstallationKey(database: Database, file: string): Promise<string> {
  const { current } = await migrationStatus(database, { directory: managerMigrations });
  const secret = current === null ? undefined : await new KeypairRepository(database).anySecret();
  if (secret === undefined && !existsSync(file)) return `${file}, made at the first start`;
  const box = await openSecretBox(file);
  if (secret !== undefined) box.decrypt(secret.secretKeyEncrypted, secret.accessKey);
  return file;
}

/**
 * That a backup holds the keys of its installation: without them, or with those of another one, it is worth nothing.
 * @throws AppError `config-invalid`
 */
export async function requireKeys(database: Database, keyFiles: Readonly<Record<string, string>>): Promise<void> {
  for (const file of Object.values(keyFiles)) {
    if (existsSync(file)) continue;
    throw new AppError('config-invalid', `The key file ${file} is not there, and belongs into a backup.`, {
      hint: 'Make backups where a manager runs, or copy its key files to this place first.',
    });
  }
  const secret = await new KeypairRepository(database).anySecret();
  const { 'installation.key': file } = keyFiles;
  if (secret !== undefined && file !== undefined) {
    (await openSecretBox(file)).decrypt(secret.secretKeyEncrypted, secret.accessKey);
  }
}
