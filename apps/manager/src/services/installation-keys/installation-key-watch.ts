import type { Clock } from '@backend.ai/core';
import type { PeerIdentity } from '@backend.ai/rpc';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import type { InstallationKeyRepository } from '../../repositories/installation-keys.ts';
import { readInstallationKeys } from './key-file.ts';
import type { SecretBox } from './secret-box.ts';

export interface InstallationKeyWatchOptions {
  readonly file: string;
  /** What it fills. */
  readonly box: SecretBox;
  readonly keys: InstallationKeyRepository;
  /** Of this manager. */
  readonly identity: Pick<PeerIdentity, 'id' | 'publicKey'>;
  readonly tickMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Keeps a manager at the keys of its file and at the one that encrypts, which may change while it runs, and tells the
 * database which these are: nothing is encrypted by a key that a manager has not told of. A file that is broken or of
 * another installation changes nothing; each pass logs it until it is right.
 */
export class InstallationKeyWatch {
  readonly #options: InstallationKeyWatchOptions;
  readonly #loop: ReconcileLoop;

  constructor(options: InstallationKeyWatchOptions) {
    this.#options = options;
    const { tickMs, clock, logger } = options;
    this.#loop = new ReconcileLoop({
      ...{ name: 'read installation keys', tickMs, clock, logger },
      run: () => this.#read(),
    });
  }

  /** Resolves when this manager, which has registered, has told of its keys. @throws AppError `config-invalid` */
  async start(): Promise<void> {
    await this.#read();
    this.#loop.start();
  }

  stop(): Promise<void> {
    return this.#loop.stop();
  }

  async #read(): Promise<void> {
    const { file, box, keys, identity } = this.#options;
    const found = await readInstallationKeys(file);
    box.use(found, (await keys.current()) ?? box.currentKeyId);
    await keys.tell(identity, { ids: found.map(({ id }) => id), encrypts: box.currentKeyId });
  }
}
