import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import type { KernelCluster, KernelSpec } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';

export interface HostAddress {
  readonly name: string;
  readonly address: string;
}

/** The only kernel of a session is found without a table of its own. */
export function needsHosts({ cluster }: Pick<KernelSpec, 'cluster'>): boolean {
  return (cluster?.hosts.length ?? 0) > 1;
}

/**
 * Where this machine finds the kernels of a cluster. Those without an address are on this machine, whose network its
 * kernels share.
 * @throws AppError `kernel-start-failed`
 */
export async function resolveHosts(hosts: KernelCluster['hosts']): Promise<HostAddress[]> {
  return await Promise.all(
    hosts.map(async ({ name, address = '127.0.0.1' }) => ({
      name,
      address: isIP(address) ? address : await addressOf(name, address),
    })),
  );
}

async function addressOf(name: string, host: string): Promise<string> {
  try {
    return (await lookup(host)).address;
  } catch (cause) {
    throw new AppError('kernel-start-failed', `The machine of ${name} cannot be found from here.`, {
      cause,
      data: { host },
      hint: 'Let the agents advertise addresses that all machines of the cluster can resolve.',
    });
  }
}

/** The kernels first: of several lines for a name, the first counts. */
export function hostsTable(hosts: readonly HostAddress[], ofMachine: string): string {
  const kernels = hosts.map(({ name, address }) => `${address}\t${name}\n`).join('');
  return `${kernels}${ofMachine}`;
}

/** The machine's own table; a loopback line where there is none. */
export function hostsOfMachine(): string {
  try {
    return readFileSync('/etc/hosts', 'utf8');
  } catch {
    return '127.0.0.1\tlocalhost\n';
  }
}
