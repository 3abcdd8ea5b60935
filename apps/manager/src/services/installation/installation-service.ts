import { randomBytes } from 'node:crypto';
import { newId, type ProjectId, type UserId } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { BusinessLog } from '../../events.ts';
import type { InstallationRepository } from '../../repositories/installation.ts';
import type { SecretBox } from '../installation-keys/secret-box.ts';

export interface AdminCredentials {
  readonly installationId: string;
  readonly email: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

/** Makes what a new installation needs. Idempotent: later calls answer what is there. */
export class InstallationService {
  readonly #installation: InstallationRepository;
  readonly #box: SecretBox;
  readonly #email: string;
  readonly #log: BusinessLog;

  constructor(installation: InstallationRepository, box: SecretBox, email: string, logger: Logger) {
    this.#installation = installation;
    this.#box = box;
    this.#email = email;
    this.#log = new BusinessLog(logger);
  }

  /** @throws AppError `config-invalid` when the key file is not the one of this database */
  async ensureInstallation(): Promise<AdminCredentials> {
    const installationId = await this.#installation.ensure('installation_id', newId());
    await this.#installation.ensureDefaults(newId<ProjectId>());
    const accessKey = newAccessKey();
    const admin = await this.#installation.ensureSuperadmin({
      userId: newId<UserId>(),
      email: this.#email,
      accessKey,
      secretKeyEncrypted: this.#box.encrypt(newSecretKey(), accessKey),
    });
    if (admin.accessKey === accessKey) this.#log.installationCreated(accessKey);
    return {
      installationId,
      email: admin.email,
      accessKey: admin.accessKey,
      secretKey: this.#box.decrypt(admin.secretKeyEncrypted, admin.accessKey),
    };
  }
}

const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

export function newAccessKey(): string {
  return `AKIA${[...randomBytes(16)].map((byte) => letters[byte % 32]).join('')}`;
}

/** As long as those of the original (40 characters); without a `-`, which command lines take for an option where it comes first. */
export function newSecretKey(): string {
  return randomBytes(20).toString('hex');
}
