import { AppError, type Clock, delay, formatSubnet, Lane, Lanes, type Subnet } from '@backend.ai/core';
import type { BackendClusterNetworks } from '../backend.ts';
import { type Engine, refusalOf } from './engine.ts';
import { labels } from './labels.ts';
import { freeSubnet } from './subnet-pool.ts';
import { type NetworkInfo, readRoutes, subnetsOf } from './taken-subnets.ts';

export interface ClusterNetworksOptions {
  readonly engine: Pick<Engine, 'listNetworks' | 'createNetwork' | 'removeNetwork'>;
  /** Where networks get their addresses, in the whole swarm, and how many bits are given to each. */
  readonly pool: Subnet;
  readonly prefix: number;
  /** Whether what passes between machines is encrypted. */
  readonly encrypted: boolean;
  readonly clock: Clock;
}

const tries = 4;
const pollMs = 250;
/** The nodes of a swarm have agreed upon a network by then, or it has what another one has. */
const agreedWithinMs = 5_000;
/** Nodes tell a while after a container has gone that it does not use its network any more. */
const unusedWithinMs = 15_000;

/**
 * Networks of sessions over the nodes of a swarm. They lead nowhere else: the way beyond is that of the network that a
 * session has on each machine, with its firewall. They belong to the swarm, and not to the agent that made them.
 */
export class ClusterNetworks implements BackendClusterNetworks {
  readonly #options: ClusterNetworksOptions;
  /** One after the other: a range must not be found free twice. */
  readonly #ranges = new Lane();
  /** Orders by network: what is removed must not be made by one that came before. */
  readonly #orders = new Lanes<string>();
  /** Networks whose removal was ordered last. */
  readonly #unwanted = new Set<string>();

  constructor(options: ClusterNetworksOptions) {
    this.#options = options;
  }

  async ensure(sessionId: string): Promise<string> {
    const name = clusterNetworkName(sessionId);
    this.#unwanted.delete(name);
    await this.#orders.follow(name, () => this.#ranges.follow(() => this.#ensure(name, sessionId)));
    return name;
  }

  async remove(sessionId: string): Promise<void> {
    const name = clusterNetworkName(sessionId);
    this.#unwanted.add(name);
    await this.#orders.follow(name, async () => {
      try {
        await this.#remove(name);
      } finally {
        this.#unwanted.delete(name);
      }
    });
  }

  async #ensure(name: string, sessionId: string): Promise<void> {
    const { engine, pool, prefix, encrypted } = this.#options;
    const refused: Subnet[] = [];
    for (let tried = 1; ; tried++) {
      if (this.#unwanted.has(name)) {
        throw new AppError('cancelled', 'The network of the session is to be removed.');
      }
      const present = await engine.listNetworks();
      if (present.some(({ Name }) => Name === name) && (await this.#isAgreed(name))) return;
      const subnet = freeSubnet(pool, prefix, [...present.flatMap(subnetsOf), ...readRoutes(), ...refused]);
      if (!subnet) {
        throw new AppError(
          'insufficient-capacity',
          'The swarm has no address range left for the network of a session.',
          {
            data: { pool: formatSubnet(pool), prefix },
            hint: 'End sessions, or give the agent a larger docker.cluster-subnet-pool.',
          },
        );
      }
      try {
        await engine.createNetwork({
          Name: name,
          CheckDuplicate: true,
          Driver: 'overlay',
          Attachable: true,
          Internal: true,
          EnableIPv6: false,
          Labels: { [labels.session]: sessionId },
          IPAM: { Driver: 'default', Config: [{ Subnet: formatSubnet(subnet) }] },
          ...(encrypted ? { Options: { encrypted: '' } } : {}),
        });
      } catch (error) {
        // Another manager of the swarm was quicker.
        if (refusalOf(error) !== 409 || tried === tries) throw error;
      }
      if (await this.#isAgreed(name)) return;
      // Its range is that of another one, which is not seen yet.
      await this.#remove(name);
      if (tried === tries)
        throw new AppError('engine-failed', 'The swarm did not agree upon a network for the session.');
      refused.push(subnet);
    }
  }

  async #isAgreed(name: string): Promise<boolean> {
    return await this.#within(agreedWithinMs, async () => {
      const found = await this.#find(name);
      return found !== undefined && subnetsOf(found).length > 0;
    });
  }

  async #remove(name: string): Promise<void> {
    const { engine } = this.#options;
    let refusal: unknown;
    const isGone = await this.#within(unusedWithinMs, async () => {
      const found = await this.#find(name);
      if (!found) return true;
      try {
        await engine.removeNetwork(found.Id);
      } catch (error) {
        if (refusalOf(error) === undefined) throw error;
        refusal = error;
      }
      return false;
    });
    if (!isGone) throw refusal ?? new AppError('engine-failed', 'The network of the session stays.');
  }

  async #find(name: string): Promise<NetworkInfo | undefined> {
    return (await this.#options.engine.listNetworks({ name: [name] })).find(({ Name }) => Name === name);
  }

  async #within(limitMs: number, isSo: () => Promise<boolean>): Promise<boolean> {
    const { clock } = this.#options;
    const until = clock.monotonic() + limitMs;
    while (!(await isSo())) {
      if (clock.monotonic() >= until) return false;
      await delay(clock, pollMs);
    }
    return true;
  }
}

/** The same on every node. */
export function clusterNetworkName(sessionId: string): string {
  return `backendai-cluster-${sessionId}`;
}
