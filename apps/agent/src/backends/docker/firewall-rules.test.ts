import type { EgressPolicy } from '@backend.ai/contract';
import { parseSubnet } from '@backend.ai/core';
import { describe, expect, it } from 'vitest';
import { chainsOf, firewallRules, networkChainOf, rulesOfNew, withoutNetwork } from './firewall-rules.ts';

const pool = parseSubnet('10.99.0.0/16')!;
const subnet = parseSubnet('10.99.0.64/26')!;
const bridge = 'br-0123456789ab';
const chain = 'BACKENDAI-br-0123456789ab';
const bare = '-P INPUT ACCEPT\n-P FORWARD ACCEPT';

/** What `iptables -S` prints after these rules were put in place where there were none. */
function asPrinted(rules: string): string {
  const lines = rules.split('\n').slice(1, -2);
  return [bare, ...lines.map((line) => line.replace(/^:(\S+) .*/, '-N $1').replace(/^-I (\S+) 1 /, '-A $1 ')), ''].join(
    '\n',
  );
}

/** The chain of the network, without the name of the chain. */
function linesOf(egress: EgressPolicy, nameServers: string[] = [], present = bare): string[] {
  return (firewallRules(pool, [{ subnet, bridge, egress }], nameServers, present) ?? '')
    .split('\n')
    .flatMap((line) => (line.startsWith(`-A ${chain} `) ? line.slice(`-A ${chain} `.length) : []));
}

it('drops what containers begin with the machine, engines of a swarm, cloud metadata and other networks, in this order', () => {
  expect(firewallRules(pool, [], [], bare)?.split('\n')).toEqual([
    '*mangle',
    ':BACKENDAI-IN-0a630000-16 - [0:0]',
    ':BACKENDAI-FWD-0a630000-16 - [0:0]',
    '-A BACKENDAI-IN-0a630000-16 -s 10.99.0.0/16 -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN',
    '-A BACKENDAI-IN-0a630000-16 -s 10.99.0.0/16 -j DROP',
    '-A BACKENDAI-FWD-0a630000-16 -m physdev --physdev-is-bridged -j RETURN',
    '-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -p udp -m udp --dport 4789 -j DROP',
    '-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -p udp -m udp --dport 7946 -j DROP',
    '-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -p tcp -m tcp --dport 7946 -j DROP',
    '-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -p tcp -m tcp --dport 2377 -j DROP',
    ...['169.254.0.0/16', '100.100.100.200/32', '168.63.129.16/32', '192.0.0.192/32'].flatMap((metadata) => [
      `-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -d ${metadata} -p udp -m udp --dport 53 -j RETURN`,
      `-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -d ${metadata} -p tcp -m tcp --dport 53 -j RETURN`,
      `-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -d ${metadata} -j DROP`,
    ]),
    '-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -d 10.99.0.0/16 -j DROP',
    '-I INPUT 1 -j BACKENDAI-IN-0a630000-16',
    '-I FORWARD 1 -j BACKENDAI-FWD-0a630000-16',
    'COMMIT',
    '',
  ]);
});

it('drops what comes from a network with an address that is not of it, before anything is accepted but what stays on its bridge', () => {
  const other = {
    subnet: parseSubnet('10.99.0.128/26')!,
    bridge: 'br-ba9876543210',
    egress: { policy: 'none' } as const,
  };
  const networks = [{ subnet, bridge, egress: { policy: 'open' } as const }, other];
  const lines = (firewallRules(pool, networks, [], bare) ?? '').split('\n');
  const rulesOf = (name: string): string[] =>
    lines.flatMap((line) => (line.startsWith(`-A ${name} `) ? line.slice(`-A ${name} `.length) : []));
  const onOneBridge = '-m physdev --physdev-is-bridged -j RETURN';
  expect(rulesOf(chain)).toEqual([onOneBridge, '! -s 10.99.0.64/26 -j DROP']);
  expect(rulesOf('BACKENDAI-br-ba9876543210')).toEqual([onOneBridge, '! -s 10.99.0.128/26 -j DROP', '-j DROP']);
  expect(lines).toContain('-I INPUT 1 ! -s 10.99.0.64/26 -i br-0123456789ab -j DROP');
  expect(lines).toContain('-I INPUT 1 ! -s 10.99.0.128/26 -i br-ba9876543210 -j DROP');
});

it('says of new networks what it would say of them after a look at the rules that are there', () => {
  const networks = [
    { subnet, bridge, egress: { policy: 'none' } as const },
    { subnet: parseSubnet('10.99.0.128/26')!, bridge: 'br-ba9876543210', egress: { policy: 'open' } as const },
  ];
  const present = asPrinted(firewallRules(pool, [], ['10.0.0.2'], bare) ?? '');
  expect(rulesOfNew(networks, ['10.0.0.2'])).toBe(firewallRules(pool, networks, ['10.0.0.2'], present));
});

it('names chains by the range, those of networks by their interface, within what iptables takes', () => {
  const { toMachine, through } = chainsOf(parseSubnet('192.168.128.0/17')!);
  expect([toMachine, through]).toEqual(['BACKENDAI-IN-c0a88000-17', 'BACKENDAI-FWD-c0a88000-17']);
  const names = [toMachine, through, networkChainOf(bridge)];
  expect(Math.max(...names.map(({ length }) => length))).toBeLessThanOrEqual(28);
});

it('enters chains once, before what is there', () => {
  const egress: EgressPolicy = { policy: 'none' };
  const entriesOf = (present: string): string[] =>
    (firewallRules(pool, [{ subnet, bridge, egress }], [], present) ?? '')
      .split('\n')
      .filter((line) => line.startsWith('-I'));
  expect(entriesOf(bare)).toEqual([
    '-I INPUT 1 -j BACKENDAI-IN-0a630000-16',
    '-I FORWARD 1 -j BACKENDAI-FWD-0a630000-16',
    `-I INPUT 1 ! -s 10.99.0.64/26 -i ${bridge} -j DROP`,
    `-I FORWARD 1 -i ${bridge} -j ${chain}`,
    `-I FORWARD 1 -s 10.99.0.64/26 -j ${chain}`,
  ]);
  const entered = `-A INPUT -j BACKENDAI-IN-0a630000-16\n-A FORWARD -i ${bridge} -j ${chain}`;
  expect(entriesOf(`${bare}\n${entered}`)).toEqual([
    '-I FORWARD 1 -j BACKENDAI-FWD-0a630000-16',
    `-I INPUT 1 ! -s 10.99.0.64/26 -i ${bridge} -j DROP`,
    `-I FORWARD 1 -s 10.99.0.64/26 -j ${chain}`,
  ]);
});

it('has nothing to put in place where all of it is there, and else no chain but those that differ', () => {
  const egress: EgressPolicy = { policy: 'allow-list', allow: [{ to: '0.0.0.0/0', ports: ['443'] }] };
  const networks = [
    { subnet, bridge, egress },
    { subnet: parseSubnet('10.99.0.128/26')!, bridge: 'br-ba9876543210', egress: { policy: 'open' } as const },
  ];
  const present = asPrinted(firewallRules(pool, networks, [], bare) ?? '');
  expect(firewallRules(pool, networks, [], present)).toBeNull();
  const without = (line: string): string => present.replace(`${line}\n`, '');
  expect(firewallRules(pool, networks, [], without('-A BACKENDAI-br-ba9876543210 ! -s 10.99.0.128/26 -j DROP'))).toBe(
    [
      '*mangle',
      ':BACKENDAI-br-ba9876543210 - [0:0]',
      '-A BACKENDAI-br-ba9876543210 -m physdev --physdev-is-bridged -j RETURN',
      '-A BACKENDAI-br-ba9876543210 ! -s 10.99.0.128/26 -j DROP',
      'COMMIT',
      '',
    ].join('\n'),
  );
  expect(firewallRules(pool, networks, [], without(`-A FORWARD -i ${bridge} -j ${chain}`))).toBe(
    ['*mangle', `-I FORWARD 1 -i ${bridge} -j ${chain}`, 'COMMIT', ''].join('\n'),
  );
  const another = [{ subnet, bridge, egress: { policy: 'none' } as const }];
  expect(firewallRules(pool, another, [], present)?.split('\n')).toContain(`-A ${chain} -j DROP`);
});

describe('the chain of a network', () => {
  it('lets nothing leave but what stays among its own kernels, where the policy is none', () => {
    expect(linesOf({ policy: 'none' }, ['192.0.2.53'])).toEqual([
      '-m physdev --physdev-is-bridged -j RETURN',
      '! -s 10.99.0.64/26 -j DROP',
      '-j DROP',
    ]);
  });

  it('lets what a list names leave, and questions to name servers', () => {
    const allow = [
      { to: '10.0.0.0/8' },
      { to: '192.0.2.7/32', protocol: 'udp' as const },
      { to: '198.51.100.0/24', protocol: 'tcp' as const, ports: ['443', '8000-8100'] },
      { to: '203.0.113.0/24', ports: ['53'] },
    ];
    expect(linesOf({ policy: 'allow-list', allow }, ['192.0.2.53'])).toEqual([
      '-m physdev --physdev-is-bridged -j RETURN',
      '! -s 10.99.0.64/26 -j DROP',
      '-d 192.0.2.53/32 -p udp -m udp --dport 53 -j RETURN',
      '-d 192.0.2.53/32 -p tcp -m tcp --dport 53 -j RETURN',
      '-d 10.0.0.0/8 -j RETURN',
      '-d 192.0.2.7/32 -p udp -j RETURN',
      '-d 198.51.100.0/24 -p tcp -m tcp --dport 443 -j RETURN',
      '-d 198.51.100.0/24 -p tcp -m tcp --dport 8000:8100 -j RETURN',
      '-d 203.0.113.0/24 -p udp -m udp --dport 53 -j RETURN',
      '-d 203.0.113.0/24 -p tcp -m tcp --dport 53 -j RETURN',
      '-j DROP',
    ]);
  });

  it('goes with every line that leads to it, and leaves those of another network alone, of whatever range', () => {
    const others = [
      `-N ${chain}0`,
      '-A INPUT ! -s 10.99.0.64/26 -i br-ba9876543210 -j DROP',
      '-A FORWARD -i br-ba9876543210 -j BACKENDAI-br-ba9876543210',
      '-A FORWARD -s 10.99.0.64/26 -j BACKENDAI-br-ba9876543210',
    ];
    const ours = [
      `-A INPUT ! -s 10.99.0.64/26 -i ${bridge} -j DROP`,
      `-A FORWARD -i ${bridge} -j ${chain}`,
      `-A FORWARD -s 10.99.0.64/26 -j ${chain}`,
    ];
    const present = [`-N ${chain}`, ...others, ...ours, `-A ${chain} -j DROP`].join('\n');
    expect(withoutNetwork(bridge, present)?.split('\n')).toEqual([
      '*mangle',
      ...ours.map((line) => line.replace('-A', '-D')),
      `-F ${chain}`,
      `-X ${chain}`,
      'COMMIT',
      '',
    ]);
    expect(withoutNetwork(bridge, [bare, ...others].join('\n'))).toBeNull();
  });
});
