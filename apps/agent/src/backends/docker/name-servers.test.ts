import { expect, it } from 'vitest';
import { nameServersIn } from './name-servers.ts';

it('takes the name servers that containers ask themselves', () => {
  const text = '# made\nsearch example.org\nnameserver 192.0.2.53\n nameserver\t198.51.100.1 \nnameserver 127.0.0.53\n';
  expect(nameServersIn(`${text}nameserver 2001:db8::1\nnameserver example\n#nameserver 192.0.2.1\n`)).toEqual([
    '192.0.2.53',
    '198.51.100.1',
  ]);
});
