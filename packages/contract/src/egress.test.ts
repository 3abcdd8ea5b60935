import { describe, expect, it } from 'vitest';
import { egressPolicySchema, parsePorts } from './egress.ts';

const list = (...allow: unknown[]): unknown => ({ policy: 'allow-list', allow });
const accepts = (policy: unknown): boolean => egressPolicySchema.safeParse(policy).success;

describe('an egress policy', () => {
  it.each([
    { policy: 'open' },
    { policy: 'none' },
    list({ to: '0.0.0.0/0', protocol: 'tcp', ports: ['443', '8000-8100'] }, { to: '192.0.2.7/32' }),
  ])('may be %j', (policy) => {
    expect(egressPolicySchema.parse(policy)).toEqual(policy);
  });

  it.each([
    {},
    { policy: 'closed' },
    { policy: 'none', allow: [] },
    { policy: 'open', name: 'mine' },
    list(),
    list({ to: '10.0.0.1/8' }),
    list({ to: '10.0.0.0' }),
    list({ to: '2001:db8::/32' }),
    list({ to: 'example.org' }),
    list({ to: '10.0.0.0/8 -j RETURN' }),
    list({ to: '10.0.0.0/8', protocol: 'icmp' }),
    list({ to: '10.0.0.0/8', ports: [] }),
    list({ to: '10.0.0.0/8', ports: ['0'] }),
    list({ to: '10.0.0.0/8', ports: ['443 -j RETURN'] }),
    list({ to: '10.0.0.0/8', ports: ['9-8'] }),
    list({ to: '10.0.0.0/8', ports: ['65536'] }),
    list({ to: '10.0.0.0/8', port: '443' }),
    list(...Array.from({ length: 65 }, () => ({ to: '10.0.0.0/8' }))),
  ])('may not be %j', (policy) => {
    expect(accepts(policy)).toBe(false);
  });

  it('names ports and ranges of them, both ends included', () => {
    expect([parsePorts('443'), parsePorts('1-65535'), parsePorts('80-'), parsePorts('')]).toEqual([
      [443, 443],
      [1, 65_535],
      null,
      null,
    ]);
  });
});
