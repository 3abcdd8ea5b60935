import { existsSync } from 'node:fs';
import { AppError, type Clock, systemClock } from '@backend.ai/core';
import { type Database, managerMigrations, migrationStatus } from '@backend.ai/database';
import type { Logger } from '@backend.ai/telemetry';
import { FixtureRepository } from './repositories/fixtures.ts';
import { InstallationRepository } from './repositories/installation.ts';
import { InstallationKeyRepository } from './repositories/installation-keys.ts';
import { PeerRepository } from './repositories/peers.ts';
import { StoredSecretRepository } from './repositories/stored-secrets.ts';
import { FixtureService } from './services/fixtures/fixture-service.ts';
import { InstallationService } from './services/installation/installation-service.ts';
import { InstallationKeyService } from './services/installation-keys/installation-key-service.ts';
import {
  type InstallationKey,
  makeInstallationKeys,
  readInstallationKeys,
} from './services/installation-keys/key-file.ts';
import { SecretBox } from './services/installation-keys/secret-box.ts';
import { PeerService } from './services/peers/peer-service.ts';

export interface InstallationOptions {
  /** Migrated. */
  readonly database: Database;
  readonly installationKeyFile: string;
  readonly adminEmail: string;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** How long a rotation of the key waits for managers; see `InstallationKeyServiceOptions`. */
  readonly patienceMs?: number;
}

export interface Installation {
  /** Opens the installation key when it is used, and makes it for an installation that has none. */
  readonly fixtures: Pick<FixtureService, 'populate'>;
  readonly peers: PeerService;
  readonly installationKeys: InstallationKeyService;
}

/** What is done on the stores of an installation, also before its first manager starts. */
export function openInstallation(options: InstallationOptions): Installation {
  const { database, installationKeyFile, logger, adminEmail, clock = systemClock, patienceMs } = options;
  return {
    fixtures: {
      async populate(fixture) {
        const box = await openInstallationKey(database, installationKeyFile);
        const installation = new InstallationService(new InstallationRepository(database), box, adminEmail, logger);
        return await new FixtureService(new FixtureRepository(database), installation, box).populate(fixture);
      },
    },
    peers: new PeerService(new PeerRepository(database), clock, logger),
    installationKeys: new InstallationKeyService({
      file: installationKeyFile,
      keys: new InstallationKeyRepository(database),
      secrets: new StoredSecretRepository(database),
      clock,
      ...(patienceMs === undefined ? {} : { patienceMs }),
    }),
  };
}

/**
 * The keys under which the secrets of this database are encrypted. One is made while there are none.
 * @throws AppError `config-invalid` when the file has not the key of this database
 */
export async function openInstallationKey(database: Database, file: string): Promise<SecretBox> {
  const current = await new InstallationKeyRepository(database).current();
  return boxOf(
    current === undefined ? await makeInstallationKeys(file) : await readInstallationKeys(file),
    current,
    file,
  );
}

/**
 * Whether a manager with this file could start on this database and read all that it has to, and nothing more: makes no file.
 * @throws AppError `config-invalid` when the file has not the keys of this database
 */
export async function examineInstallationKey(database: Database, file: string): Promise<string> {
  const { current, pending } = await migrationStatus(database, { directory: managerMigrations });
  // Which keys are in use can be asked with the schema of this version; before, only whether there are any.
  if (pending.length === 0) return await examineKeys(database, file);
  if (current === null && !existsSync(file)) return madeLater(file);
  await readInstallationKeys(file);
  return file;
}

async function examineKeys(database: Database, file: string): Promise<string> {
  const current = await new InstallationKeyRepository(database).current();
  if (current === undefined && !existsSync(file)) return madeLater(file);
  const box = boxOf(await readInstallationKeys(file), current, file);
  for (const { keyId } of await new StoredSecretRepository(database).countByKey()) box.requireKey(keyId);
  return file;
}

const madeLater = (file: string): string => `${file}, made at the first start`;

/** @param current Undefined while nothing is encrypted: then the first key begins. */
function boxOf(keys: readonly InstallationKey[], current: string | undefined, file: string): SecretBox {
  return new SecretBox(keys, current ?? keys[0]?.id ?? '', file);
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
  const { 'installation.key': file } = keyFiles;
  if (file !== undefined) await examineKeys(database, file);
}
