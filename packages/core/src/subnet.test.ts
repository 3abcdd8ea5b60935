import { describe, expect, it } from 'vitest';
import { formatSubnet, parseSubnet } from './subnet.ts';

describe('ranges of addresses', () => {
  it.each([
    ...['10.99.0.1/16', '10.99.0.0/33', '10.99.0.256/24', '10.99.0.0', 'somewhere', '::/0'],
    ...['010.0.0.0/8', '10.08.0.0/16', '10.0.0.0/08'],
  ])('are not what %s is', (text) => {
    expect(parseSubnet(text)).toBeNull();
  });

  it.each(['10.99.0.0/16', '0.0.0.0/0', '192.168.7.128/25', '255.255.255.255/32'])(
    'are read and written: %s',
    (text) => {
      expect(formatSubnet(parseSubnet(text)!)).toBe(text);
    },
  );
});
