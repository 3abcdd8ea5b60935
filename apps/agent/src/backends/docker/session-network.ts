import { AppError, formatSubnet, type Subnet } from '@backend.ai/core';
import { type Engine, refusalOf } from './engine.ts';
import { type Owner, ownerLabels } from './labels.ts';
import { saysTaken } from './podman-networks.ts';
import { freeSubnet } from './subnet-pool.ts';
import { type NetworkInfo, readRoutes, subnetsOf } from './taken-subnets.ts';

/** A bridge of the engine that one session has, or is to have. */
export interface SessionNetwork {
  readonly id: string;
  readonly name: string;
  /** Its interface on this machine. */
  readonly bridge: string;
  readonly subnets: readonly Subnet[];
  /** In milliseconds since the epoch. */
  readonly createdAt: number;
}

export interface NetworkMakings {
  readonly engine: Pick<Engine, 'listNetworks' | 'inspectNetwork' | 'createNetwork'>;
  readonly owner: Owner;
  readonly pool: Subnet;
  readonly prefix: number;
  /** Ranges of networks that are being made, so that none is found free twice. */
  readonly making: Set<Subnet>;
}

/** Whether containers are in a network, also some that are not ours. */
export function isInUse({ Containers }: Pick<NetworkInfo, 'Containers'>): boolean {
  return Object.keys(Containers ?? {}).length > 0;
}

/** Others may take an address range in the moment between looking and making. */
const tries = 8;

/**
 * The network of this name, made unless there is one; by one caller at a time. Those of several names are made side by side.
 * @throws AppError `insufficient-capacity` when no address range is left, `engine-failed`, `engine-unavailable`
 */
export async function ensureNetwork(
  name: string,
  { engine, owner, pool, prefix, making }: NetworkMakings,
  signal?: AbortSignal,
): Promise<SessionNetwork> {
  const tried: Subnet[] = [];
  try {
    for (;;) {
      const present = await engine.listNetworks();
      const found = present.find(({ Name }) => Name === name);
      if (found) return sessionNetworkOf(found);
      const subnet = freeSubnet(pool, prefix, [...present.flatMap(subnetsOf), ...readRoutes(), ...making]);
      if (!subnet) throw noRangeLeft(pool, prefix);
      // Taken before anything is awaited, and until it is in what others read.
      tried.push(subnet);
      making.add(subnet);
      try {
        await engine.createNetwork(
          {
            Name: name,
            CheckDuplicate: true,
            Driver: 'bridge',
            // The firewall knows the addresses of the pool only.
            EnableIPv6: false,
            Labels: ownerLabels(owner),
            IPAM: { Driver: 'default', Config: [{ Subnet: formatSubnet(subnet) }] },
          },
          signal,
        );
        const made = await engine.inspectNetwork(name);
        if (made) return sessionNetworkOf(made);
      } catch (error) {
        // Somebody was quicker: with this range, or with this very network.
        if (!isTaken(error) || tried.length > tries) throw error;
      }
    }
  } finally {
    for (const subnet of tried) making.delete(subnet);
  }
}

function noRangeLeft(pool: Subnet, prefix: number): AppError {
  return new AppError('insufficient-capacity', 'This agent has no address range left for the network of a session.', {
    data: { pool: formatSubnet(pool), prefix },
    hint: 'End sessions, or give the agent a larger docker.subnet-pool.',
  });
}

function isTaken(error: unknown): boolean {
  const status = refusalOf(error);
  return status === 403 || status === 409 || (status === 500 && saysTaken((error as AppError).message));
}

export function sessionNetworkOf(network: NetworkInfo): SessionNetwork {
  const { Id, Name, Created, Options } = network;
  return {
    id: Id,
    name: Name,
    // As the engine names the interface of a network that was given no name for it.
    bridge: Options?.['com.docker.network.bridge.name'] ?? `br-${Id.slice(0, 12)}`,
    subnets: subnetsOf(network),
    createdAt: Date.parse(Created),
  };
}
