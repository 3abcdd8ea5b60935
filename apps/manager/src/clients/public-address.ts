import { BlockList, isIP } from 'node:net';

/**
 * Which addresses are out in the world. A manager stands inside of a network: whoever can make it send requests to
 * addresses of that network, to the machine itself, or to the metadata services of clouds, gets further than they should.
 */

const inner = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  // Link-local; metadata services of most clouds.
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  // Multicast, reserved, broadcast.
  ['224.0.0.0', 3],
] as const)
  inner.addSubnet(network, prefix, 'ipv4');
// The host of Azure's virtual machines.
inner.addAddress('168.63.129.16', 'ipv4');
// Within the unicast range of the internet: tunnels that lead to IPv4 addresses, and documentation.
for (const [network, prefix] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const)
  inner.addSubnet(network, prefix, 'ipv6');

const unicast = new BlockList();
unicast.addSubnet('2000::', 3, 'ipv6');

/** False also for what is no address at all, and for IPv4 addresses dressed up as IPv6. */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !inner.check(address, 'ipv4');
    case 6:
      return unicast.check(address, 'ipv6') && !inner.check(address, 'ipv6');
    default:
      return false;
  }
}

/** The address that stands in a URL; null: a name does, which has to be resolved. */
export function literalAddress(url: URL): string | null {
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  return isIP(host) === 0 ? null : host;
}

/** A name that means this machine or its neighbours wherever it is resolved (RFC 6761, RFC 6762). */
export function isLocalName({ hostname }: URL): boolean {
  return /(^|\.)(localhost|local)\.?$/i.test(hostname);
}
