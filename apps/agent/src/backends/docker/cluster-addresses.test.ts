import { parseSubnet } from '@backend.ai/core';
import { expect, it } from 'vitest';
import { clusterAddresses } from './cluster-addresses.ts';

const subnet = parseSubnet('10.99.0.64/26')!;
const cluster = (...names: string[]) => ({
  localRank: 0,
  replicas: { main: 1, sub: names.length - 1 },
  hosts: names.map((name) => ({ name })),
});

it('each kernel of a session knows its own address and those of the others, whichever is started first', () => {
  const names = ['main1', 'sub1', 'sub2'];
  const seen = names.map((hostname) => clusterAddresses({ hostname, cluster: cluster(...names) }, subnet)!);
  const addresses = ['10.99.0.66', '10.99.0.67', '10.99.0.68'];
  expect(seen.map(({ own }) => own)).toEqual(addresses);
  for (const [index, { others }] of seen.entries())
    expect(others.map(({ address }) => address)).toEqual(addresses.filter((_, other) => other !== index));
});

it('the only kernel of a session may have any', () => {
  expect(clusterAddresses({ hostname: 'main1' }, subnet)).toBeNull();
  expect(clusterAddresses({ hostname: 'main1', cluster: cluster('main1') }, subnet)).toBeNull();
});

it('a session with more kernels than its network has addresses is refused', () => {
  const names = (count: number) => Array.from({ length: count }, (_, index) => `sub${index}`);
  const tried = (count: number) => clusterAddresses({ hostname: 'sub0', cluster: cluster(...names(count)) }, subnet);
  expect(tried(61)?.others.at(-1)?.address).toBe('10.99.0.126');
  expect(() => tried(62)).toThrow(/too small/);
});
