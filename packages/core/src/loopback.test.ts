import { expect, it } from 'vitest';
import { isLoopback } from './loopback.ts';

it.each(['localhost', '127.0.0.1', '127.1.2.3', '::1', '[::1]'])('%s stays on this machine', (host) => {
  expect(isLoopback(host)).toBe(true);
});

it.each(['0.0.0.0', '::', '10.0.0.1', '127.0.0.1.example', 'localhost.example', '128.0.0.1', ''])(
  '%s may lead elsewhere',
  (host) => {
    expect(isLoopback(host)).toBe(false);
  },
);
