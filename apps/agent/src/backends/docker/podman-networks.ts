import { createHash } from 'node:crypto';
import type Docker from 'dockerode';

/** Where Podman takes networks by its own interface: that of Docker has no way to leave out its name server. */
export const podmanNetworkPath = '/v4.0.0/libpod/networks/create';

export interface PodmanNetwork {
  readonly name: string;
  readonly driver: string;
  readonly network_interface: string;
  readonly subnets: ReadonlyArray<{ readonly subnet: string }>;
  readonly ipv6_enabled: boolean;
  /** It would listen on the machine, which containers may not call, and ask name servers on their behalf. */
  readonly dns_enabled: false;
  readonly labels: Readonly<Record<string, string>>;
  /** From other networks, as Docker does. */
  readonly options: { readonly isolate: 'true' };
}

/** The bridge that Docker would make of these options. */
export function podmanNetwork({ Name, Driver, EnableIPv6, Labels, IPAM }: Docker.NetworkCreateOptions): PodmanNetwork {
  return {
    name: Name,
    driver: Driver ?? 'bridge',
    network_interface: podmanBridge(Name),
    subnets: (IPAM?.Config ?? []).map(({ Subnet = '' }) => ({ subnet: Subnet })),
    ipv6_enabled: EnableIPv6 ?? false,
    dns_enabled: false,
    labels: Labels ?? {},
    options: { isolate: 'true' },
  };
}

/** Podman does not tell the interface of a network; of ours it is known. */
export function withBridgeOfPodman(network: Docker.NetworkInspectInfo): Docker.NetworkInspectInfo {
  return { ...network, Options: { ...network.Options, 'com.docker.network.bridge.name': podmanBridge(network.Name) } };
}

/** Names of interfaces have 15 characters at most. */
function podmanBridge(network: string): string {
  return `bai${createHash('sha256').update(network).digest('hex').slice(0, 12)}`;
}

/** Whether a refusal means that a name or a range of addresses is taken: Podman has one status for everything. */
export function saysTaken(message: string): boolean {
  return /already (exists|used|in use)/.test(message);
}
