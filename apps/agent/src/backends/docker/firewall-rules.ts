import { isDeepStrictEqual } from 'node:util';
import { type EgressPolicy, type EgressRule, parsePorts } from '@backend.ai/contract';
import { formatSubnet, type Subnet } from '@backend.ai/core';

/**
 * What the firewall of the machine is told, as text for `iptables-restore --noflush`, decided by what `iptables -S` says is
 * there. A chain of ours that is not as it should be is put in place as a whole; the chains of the system, from which they
 * are entered, get and lose only our own lines. Rules are written as `iptables -S` prints them: otherwise they would be
 * put in place each time anew.
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

/**
 * The chain of one session's network, by its interface: other agents of this machine may have the same pool, with this
 * engine or another one, and an address range of one that is about to remove its network may be in use here by then.
 */
export function networkChainOf(bridge: string): string {
  return `BACKENDAI-${bridge}`;
}

/** To which no rule restricts anything. */
const everywhere = '0.0.0.0/0';
/**
 * Where clouds answer with credentials of the machine: link-local addresses, and those of Alibaba Cloud, Azure and Oracle
 * Cloud that are none.
 */
const metadata = ['169.254.0.0/16', '100.100.100.200/32', '168.63.129.16/32', '192.0.0.192/32'];
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
 * Containers with an address of the pool may answer the machine but not call it, reach no metadata of a cloud but the name
 * servers at such addresses, no engine of a swarm, and no other network of the pool. Those of a network with an egress policy
 * reach what it allows of the rest. What comes from a network with an address that is not of it goes nowhere: the
 * rules, which go by addresses, would not know it. Everything else is for the rules that follow ours. Null: all of that is
 * there.
 * @param present What `iptables -S` prints of that table.
 * @param nameServers That networks with a list may ask, in any case.
 */
export function firewallRules(
  pool: Subnet,
  networks: readonly GuardedNetwork[],
  nameServers: readonly string[],
  present: string,
): string | null {
  const there = contentOf(present);
  const { toMachine, through } = chainsOf(pool);
  const range = formatSubnet(pool);
  const chains: readonly Chain[] = [
    [toMachine, [`-s ${range} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN`, `-s ${range} -j DROP`]],
    [
      through,
      [
        onOneBridge,
        ...swarmPorts.map(([protocol, port]) => `-s ${range} ${portsOf(protocol, `${port}`)} -j DROP`),
        ...metadata.flatMap((to) => [
          ...['udp', 'tcp'].map((protocol) => `-s ${range} -d ${to} ${portsOf(protocol, '53')} -j RETURN`),
          `-s ${range} -d ${to} -j DROP`,
        ]),
        `-s ${range} -d ${range} -j DROP`,
      ],
    ],
    ...networks.map((network) => chainOf(network, nameServers)),
  ];
  const entries: readonly Entry[] = [
    ['INPUT', `-j ${toMachine}`],
    ['FORWARD', `-j ${through}`],
    ...networks.flatMap(entriesOf),
  ];
  const wrong = chains.filter(([name, rules]) => !isDeepStrictEqual(there.get(name), rules));
  const missing = entries.filter(([chain, rule]) => !there.get(chain)?.includes(rule));
  return wrong.length + missing.length === 0 ? null : added(wrong, missing);
}

/** What `firewallRules` puts in place for networks of which nothing is there yet. */
export function rulesOfNew(networks: readonly GuardedNetwork[], nameServers: readonly string[]): string {
  return added(
    networks.map((network) => chainOf(network, nameServers)),
    networks.flatMap(entriesOf),
  );
}

type Chain = readonly [name: string, rules: readonly string[]];
type Entry = readonly [chain: string, rule: string];

function chainOf(network: GuardedNetwork, nameServers: readonly string[]): Chain {
  return [networkChainOf(network.bridge), networkRules(network, nameServers)];
}

function entriesOf({ subnet, bridge }: GuardedNetwork): readonly Entry[] {
  return [
    ['INPUT', `${foreign(subnet)} -i ${bridge} -j DROP`],
    // By both: an engine may call its interfaces otherwise, and an address alone can be one of somebody else's.
    ['FORWARD', `-i ${bridge} -j ${networkChainOf(bridge)}`],
    ['FORWARD', `-s ${formatSubnet(subnet)} -j ${networkChainOf(bridge)}`],
  ];
}

function added(chains: readonly Chain[], entries: readonly Entry[]): string {
  return restoreText([
    ...chains.map(([name]) => `:${name} - [0:0]`),
    ...chains.flatMap(([name, rules]) => rules.map((rule) => `-A ${name} ${rule}`)),
    // Before what is there: that may accept everything.
    ...entries.map(([chain, rule]) => `-I ${chain} 1 ${rule}`),
  ]);
}

/** The rules of each chain that there is. */
function contentOf(present: string): Map<string, string[]> {
  const chains = new Map<string, string[]>();
  for (const line of present.split('\n')) {
    const [, kind, chain, rule = ''] = /^-(P|N|A) (\S+) ?(.*)$/.exec(line) ?? [];
    if (chain === undefined) continue;
    const rules = chains.get(chain) ?? [];
    chains.set(chain, rules);
    if (kind === 'A') rules.push(rule);
  }
  return chains;
}

/** Takes away what the network of this interface had of its own; null: it had nothing. */
export function withoutNetwork(bridge: string, present: string): string | null {
  const chain = networkChainOf(bridge);
  const lines = present.split('\n');
  const isEntry = (line: string): boolean => line.includes(` -i ${bridge} `) || line.endsWith(` -j ${chain}`);
  const entries = lines.filter((line) => /^-A (INPUT|FORWARD) /.test(line) && isEntry(line));
  const chains = lines.includes(`-N ${chain}`) ? [`-F ${chain}`, `-X ${chain}`] : [];
  const undone = [...entries.map((line) => line.replace('-A', '-D')), ...chains];
  return undone.length === 0 ? null : restoreText(undone);
}

/** What a chain does with packets that leave a network: to return them is to let them pass. */
function networkRules({ subnet, egress }: GuardedNetwork, nameServers: readonly string[]): string[] {
  const always = [onOneBridge, `${foreign(subnet)} -j DROP`];
  if (egress.policy === 'open') return always;
  const allowed = egress.policy === 'none' ? [] : [...nameServers.map(nameService), ...egress.allow];
  return [...always, ...allowed.flatMap(returnRules), '-j DROP'];
}

/** A container may have addresses of other networks, too, and send from any of them by any of its interfaces. */
function foreign(subnet: Subnet): string {
  return `! -s ${formatSubnet(subnet)}`;
}

function nameService(address: string): EgressRule {
  return { to: `${address}/32`, ports: ['53'] };
}

function returnRules({ to, protocol, ports }: EgressRule): string[] {
  const destination = to === everywhere ? [] : [`-d ${to}`];
  const rule = (...parts: string[]): string => [...destination, ...parts, '-j RETURN'].join(' ');
  if (!ports) return [protocol ? rule(`-p ${protocol}`) : rule()];
  return (protocol ? [protocol] : ['udp', 'tcp']).flatMap((each) => ports.map((text) => rule(portsOf(each, text))));
}

/** @param ports One, or the first and the last. */
function portsOf(protocol: string, ports: string): string {
  const [first, last] = parsePorts(ports) ?? [];
  return `-p ${protocol} -m ${protocol} --dport ${first === last ? first : `${first}:${last}`}`;
}

function rangeName({ base, prefix }: Subnet): string {
  return `${base.toString(16).padStart(8, '0')}-${prefix}`;
}

function restoreText(lines: readonly string[]): string {
  return [`*${firewallTable}`, ...lines, 'COMMIT', ''].join('\n');
}
