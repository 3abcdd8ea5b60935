import { type EgressPolicy, type EgressRule, parsePorts } from '@backend.ai/contract';
import { formatSubnet, type Subnet } from '@backend.ai/core';

/**
 * What the firewall of the machine is told, as text for `iptables-restore --noflush`, decided by what `iptables -S` says is
 * there. The content of our chains is put in place as a whole; the chains of the system, from which they are entered, get
 * and lose only our own lines.
 */

/**
 * Passed before the table of filters, in which engines change what comes first: Docker takes the chain that it leaves to
 * others out of the way of packets and puts it back, each time it makes a network.
 */
export const firewallTable = 'mangle';

/** Chains of our own, one pair for each range of addresses. */
export interface FirewallChains {
  readonly toMachine: string;
  readonly through: string;
}

/** The network of a session, and what its kernels may call beyond the machine. */
export interface GuardedNetwork {
  readonly subnet: Subnet;
  /** The interface by which packets of its kernels come to the machine. */
  readonly bridge: string;
  readonly egress: EgressPolicy;
}

/** Names may have 28 characters. */
export function chainsOf(pool: Subnet): FirewallChains {
  return { toMachine: `BACKENDAI-IN-${rangeName(pool)}`, through: `BACKENDAI-FWD-${rangeName(pool)}` };
}

/** The chain of one session's network; others on this machine have other networks, so that nobody has its name, too. */
export function egressChainOf(subnet: Subnet): string {
  return `BACKENDAI-NET-${rangeName(subnet)}`;
}

/** Where clouds answer with credentials of the machine. */
const linkLocal = '169.254.0.0/16';
/** Where the nodes of a swarm take in what their networks carry, from anybody who sends it. */
export const vxlanPort = 4789;
/**
 * By which the engines of a swarm talk, on this machine or others: what is sent there could end up in a network of
 * another session.
 */
const swarmPorts = [
  ['udp', vxlanPort],
  ['udp', 7946],
  ['tcp', 7946],
  ['tcp', 2377],
] as const;
/** What stays on the bridge of one session; it comes by in our chains where bridges are filtered, too. */
const onOneBridge = '-m physdev --physdev-is-bridged -j RETURN';

/**
 * Containers with an address of the pool may answer the machine but not call it, reach no link-local address but name
 * servers of clouds, no engine of a swarm, and no other network of the pool. Those of a network with an egress policy
 * reach what it allows of the rest. What comes from a network with an address that is not of it goes nowhere: the
 * rules, which go by addresses, would not know it. Everything else is for the rules that follow ours.
 * @param present What `iptables -S` prints of that table.
 * @param nameServers That networks with a list may ask, in any case.
 */
export function firewallRules(
  pool: Subnet,
  networks: readonly GuardedNetwork[],
  nameServers: readonly string[],
  present: string,
): string {
  const lines = new Set(present.split('\n'));
  const { toMachine, through } = chainsOf(pool);
  const range = formatSubnet(pool);
  // A chain that an earlier network of this range has left is emptied for one that needs none.
  const chained = networks.filter(
    ({ subnet, egress }) => egress.policy !== 'open' || lines.has(`-N ${egressChainOf(subnet)}`),
  );
  const restricted = chained.filter(({ egress }) => egress.policy !== 'open');
  const enter = (chain: string, rule: string): string[] =>
    lines.has(`-A ${chain} ${rule}`) ? [] : [`-I ${chain} 1 ${rule}`];
  // A container may have addresses of other networks, too, and send from any of them by any of its interfaces.
  const foreign = networks.map(({ subnet, bridge }) => `-i ${bridge} ! -s ${formatSubnet(subnet)} -j DROP`);
  return restoreText([
    ...[toMachine, through, ...chained.map(({ subnet }) => egressChainOf(subnet))].map((chain) => `:${chain} - [0:0]`),
    ...foreign.map((rule) => `-A ${toMachine} ${rule}`),
    `-A ${toMachine} -s ${range} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN`,
    `-A ${toMachine} -s ${range} -j DROP`,
    `-A ${through} ${onOneBridge}`,
    ...foreign.map((rule) => `-A ${through} ${rule}`),
    ...swarmPorts.map(([protocol, port]) => `-A ${through} -s ${range} -p ${protocol} --dport ${port} -j DROP`),
    ...['udp', 'tcp'].map(
      (protocol) => `-A ${through} -s ${range} -d ${linkLocal} -p ${protocol} --dport 53 -j RETURN`,
    ),
    `-A ${through} -s ${range} -d ${linkLocal} -j DROP`,
    `-A ${through} -s ${range} -d ${range} -j DROP`,
    ...chained.flatMap(({ subnet, egress }) =>
      egressRules(egress, nameServers).map((rule) => `-A ${egressChainOf(subnet)} ${rule}`),
    ),
    // Before what is there: that may accept everything.
    ...enter('INPUT', `-j ${toMachine}`),
    ...enter('FORWARD', `-j ${through}`),
    ...restricted.flatMap(({ subnet }) => enter('FORWARD', entryOf(subnet))),
  ]);
}

/** Takes away what a network had of its own; null: it had nothing. */
export function withoutNetwork(subnet: Subnet, present: string): string | null {
  const chain = egressChainOf(subnet);
  const lines = present.split('\n');
  if (!lines.includes(`-N ${chain}`)) return null;
  const entries = lines.filter((line) => line.startsWith('-A ') && line.endsWith(` -j ${chain}`));
  return restoreText([...entries.map((line) => line.replace('-A', '-D')), `-F ${chain}`, `-X ${chain}`]);
}

/** What a chain does with packets that leave a network: to return them is to let them pass. */
function egressRules(egress: EgressPolicy, nameServers: readonly string[]): string[] {
  if (egress.policy === 'open') return [];
  const allowed = egress.policy === 'none' ? [] : [...nameServers.map(nameService), ...egress.allow];
  return [onOneBridge, ...allowed.flatMap(returnRules), '-j DROP'];
}

function nameService(address: string): EgressRule {
  return { to: `${address}/32`, ports: ['53'] };
}

function returnRules({ to, protocol, ports }: EgressRule): string[] {
  if (!ports) return [`-d ${to}${protocol ? ` -p ${protocol}` : ''} -j RETURN`];
  return (protocol ? [protocol] : ['udp', 'tcp']).flatMap((each) =>
    ports.map((text) => `-d ${to} -p ${each} --dport ${(parsePorts(text) ?? []).join(':')} -j RETURN`),
  );
}

function entryOf(subnet: Subnet): string {
  return `-s ${formatSubnet(subnet)} -j ${egressChainOf(subnet)}`;
}

function rangeName({ base, prefix }: Subnet): string {
  return `${base.toString(16).padStart(8, '0')}-${prefix}`;
}

function restoreText(lines: readonly string[]): string {
  return [`*${firewallTable}`, ...lines, 'COMMIT', ''].join('\n');
}
