import type { ClusterKeyRepository } from '../repositories/cluster-keys.ts';

/** A key pair that opens the kernels of a session is of no use after its end. */
export class ForgetClusterKeys {
  readonly #keys: ClusterKeyRepository;

  constructor(keys: ClusterKeyRepository) {
    this.#keys = keys;
  }

  async run(): Promise<void> {
    await this.#keys.removeOfEnded();
  }
}
