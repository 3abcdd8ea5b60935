import type { ClusterNetworkRepository } from '../repositories/cluster-networks.ts';
import type { ClusterNetworks } from '../services/sessions/cluster-networks.ts';
import { eachItem } from './each-item.ts';

/**
 * The network of a session over several machines goes when the session has ended; what cannot go now is tried with each
 * pass.
 */
export class RemoveClusterNetworks {
  readonly #rows: Pick<ClusterNetworkRepository, 'ofEnded'>;
  readonly #networks: Pick<ClusterNetworks, 'remove'>;

  constructor(rows: Pick<ClusterNetworkRepository, 'ofEnded'>, networks: Pick<ClusterNetworks, 'remove'>) {
    this.#rows = rows;
    this.#networks = networks;
  }

  async run(epoch: number, signal: AbortSignal): Promise<void> {
    await eachItem(await this.#rows.ofEnded(), async (network) => {
      if (!signal.aborted) await this.#networks.remove(network, epoch, signal);
    });
  }
}
