import { expect, it } from 'vitest';
import { chainsOf, firewallRules } from './firewall-rules.ts';
import { parseSubnet } from './subnet-pool.ts';

const pool = parseSubnet('10.99.0.0/16')!;

it('drops what containers begin with the machine, cloud metadata and other networks, in this order', () => {
  expect(firewallRules(pool).split('\n')).toEqual([
    '*filter',
    ':BACKENDAI-IN-0a630000-16 - [0:0]',
    ':BACKENDAI-FWD-0a630000-16 - [0:0]',
    '-A BACKENDAI-IN-0a630000-16 -s 10.99.0.0/16 -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN',
    '-A BACKENDAI-IN-0a630000-16 -s 10.99.0.0/16 -j DROP',
    '-A BACKENDAI-FWD-0a630000-16 -m physdev --physdev-is-bridged -j RETURN',
    '-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -d 169.254.0.0/16 -p udp --dport 53 -j RETURN',
    '-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -d 169.254.0.0/16 -p tcp --dport 53 -j RETURN',
    '-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -d 169.254.0.0/16 -j DROP',
    '-A BACKENDAI-FWD-0a630000-16 -s 10.99.0.0/16 -d 10.99.0.0/16 -j DROP',
    'COMMIT',
    '',
  ]);
});

it('names chains by the range, within what iptables takes', () => {
  const { toMachine, through } = chainsOf(parseSubnet('192.168.128.0/17')!);
  expect([toMachine, through]).toEqual(['BACKENDAI-IN-c0a88000-17', 'BACKENDAI-FWD-c0a88000-17']);
  expect(Math.max(toMachine.length, through.length)).toBeLessThanOrEqual(28);
});
