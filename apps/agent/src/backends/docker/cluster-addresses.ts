import type { KernelCluster, KernelSpec } from '@backend.ai/contract';
import { AppError, formatAddress, type Subnet, sizeOfSubnet } from '@backend.ai/core';
import type { HostAddress } from '../scratch/cluster-hosts.ts';

/** Of the kernels of a session in its network on this machine. */
export interface ClusterAddresses {
  readonly own: string;
  readonly others: readonly HostAddress[];
}

/** The network itself, and the way out of it. */
const takenBelow = 2;

/**
 * Addresses that are known before the containers are: each kernel has the one of its place in the list of its session, so
 * that the first to start knows the last one's. Null: it is the only one, and may have any.
 * @throws AppError `insufficient-capacity`
 */
export function clusterAddresses(
  { hostname, cluster }: Pick<KernelSpec, 'hostname' | 'cluster'>,
  subnet: Subnet,
): ClusterAddresses | null {
  const hosts: KernelCluster['hosts'] = cluster?.hosts ?? [];
  if (hosts.length < 2) return null;
  // The last one is for all.
  if (takenBelow + hosts.length >= sizeOfSubnet(subnet.prefix)) {
    throw new AppError('insufficient-capacity', 'The network of the session is too small for its kernels.', {
      hint: 'Give the networks of sessions fewer bits: docker.subnet-prefix of the agent.',
    });
  }
  const addresses = hosts.map(({ name }, index) => ({
    name,
    address: formatAddress(subnet.base + takenBelow + index),
  }));
  const own = addresses.find(({ name }) => name === hostname);
  if (!own) throw new AppError('internal', 'The kernel is not among those of its session.');
  return { own: own.address, others: addresses.filter((each) => each !== own) };
}
