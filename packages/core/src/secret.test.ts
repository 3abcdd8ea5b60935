import { inspect } from 'node:util';
import { expect, it } from 'vitest';
import { maskUrls, Secret } from './secret.ts';

it('a secret is shown by nothing but reveal', () => {
  const value = new Secret('hunter2');
  expect(value.reveal()).toBe('hunter2');
  for (const text of [String(value), `${value}`, JSON.stringify({ value }), inspect({ value }, { showHidden: true })]) {
    expect(text).toContain('***');
    expect(text).not.toContain('hunter2');
  }
});

it('a secret inside a URL hides the password and leaves the rest', () => {
  expect(String(Secret.url('postgres://u:p@ss/w@db:5432/x'))).toBe('postgres://u:***@db:5432/x');
  expect(String(Secret.url('redis://:p@h'))).toBe('redis://:***@h');
  expect(String(Secret.url('pg://u:a\'b "c@h'))).toBe('pg://u:***@h');
  expect(maskUrls('see http://a:b@c/ and pg://x/y?sslpassword=z&a=1')).toBe(
    'see http://a:***@c/ and pg://x/y?sslpassword=***&a=1',
  );
});
