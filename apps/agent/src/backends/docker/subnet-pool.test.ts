import { formatSubnet, parseSubnet, type Subnet } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { freeSubnet, overlap, routedSubnets } from './subnet-pool.ts';

const subnet = (text: string): Subnet => parseSubnet(text) ?? expect.fail(text);

describe('address ranges', () => {
  it('of the machine are its routes, but for the one to everywhere else', () => {
    const table =
      'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n' +
      'eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n' +
      'tun0\t0000630A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n';
    expect(routedSubnets(table).map(formatSubnet)).toEqual(['10.99.0.0/16']);
  });

  it('of sessions lie in the pool, and overlap with nothing that is taken', () => {
    const anySubnet = fc
      .tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0, max: 255 }), fc.integer({ min: 14, max: 30 }))
      .map(([third, fourth, prefix]): Subnet => {
        const size = 2 ** (32 - prefix);
        return { base: Math.floor((((10 * 256 + 99) * 256 + third) * 256 + fourth) / size) * size, prefix };
      });
    const pool = subnet('10.99.0.0/20');
    fc.assert(
      fc.property(fc.array(anySubnet, { maxLength: 30 }), fc.integer({ min: 22, max: 29 }), (taken, prefix) => {
        const free = freeSubnet(pool, prefix, taken);
        const size = 2 ** (32 - prefix);
        const all = Array.from({ length: 2 ** (prefix - 20) }, (_, nth) => ({ base: pool.base + nth * size, prefix }));
        const expected = all.find((each) => !taken.some((other) => overlap(each, other)));
        expect(free).toEqual(expected ?? null);
      }),
    );
  });
});
