import { readFileSync } from 'node:fs';
import { parseSubnet, type Subnet } from '@backend.ai/core';
import type { Engine } from './engine.ts';
import { routedSubnets } from './subnet-pool.ts';

export type NetworkInfo = Awaited<ReturnType<Engine['listNetworks']>>[number];

/** The ranges of addresses of a network; none as long as a swarm has not agreed upon it. */
export function subnetsOf({ IPAM }: NetworkInfo): Subnet[] {
  return (IPAM?.Config ?? []).flatMap(({ Subnet = '' }) => parseSubnet(Subnet) ?? []);
}

/** What this machine has routes to. */
export function readRoutes(): Subnet[] {
  try {
    return routedSubnets(readFileSync('/proc/net/route', 'latin1'));
  } catch {
    // Not Linux, or hidden: the engine refuses what it knows to be taken.
    return [];
  }
}
