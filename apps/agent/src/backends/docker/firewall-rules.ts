import { formatSubnet, type Subnet } from './subnet-pool.ts';

/** Chains of our own, one pair for each range of addresses, and the chains of the system from which they are entered. */
export interface FirewallChains {
  readonly toMachine: string;
  readonly through: string;
}

/** Names may have 28 characters. */
export function chainsOf({ base, prefix }: Subnet): FirewallChains {
  const range = `${base.toString(16).padStart(8, '0')}-${prefix}`;
  return { toMachine: `BACKENDAI-IN-${range}`, through: `BACKENDAI-FWD-${range}` };
}

/** Where clouds answer with credentials of the machine. */
const linkLocal = '169.254.0.0/16';

/**
 * What `iptables-restore --noflush` reads: the whole content of our chains, put in place at once. Containers with an
 * address of the pool may answer the machine but not call it, reach no link-local address but name servers of clouds, and
 * no other network of the pool. Everything else is for the rules that follow ours.
 */
export function firewallRules(pool: Subnet): string {
  const { toMachine, through } = chainsOf(pool);
  const range = formatSubnet(pool);
  const rules = [
    `-A ${toMachine} -s ${range} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN`,
    `-A ${toMachine} -s ${range} -j DROP`,
    // What stays on the bridge of one session; it comes by here where bridges are filtered, too.
    `-A ${through} -m physdev --physdev-is-bridged -j RETURN`,
    ...['udp', 'tcp'].map(
      (protocol) => `-A ${through} -s ${range} -d ${linkLocal} -p ${protocol} --dport 53 -j RETURN`,
    ),
    `-A ${through} -s ${range} -d ${linkLocal} -j DROP`,
    `-A ${through} -s ${range} -d ${range} -j DROP`,
  ];
  return ['*filter', `:${toMachine} - [0:0]`, `:${through} - [0:0]`, ...rules, 'COMMIT', ''].join('\n');
}
