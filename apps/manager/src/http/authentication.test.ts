import { createHash, createHmac } from 'node:crypto';
import { hasCode, signRequest } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type AuthenticationOptions, authenticate } from './authentication.ts';
import type { Keypair } from './dependencies.ts';

const key = 'AKIAIOSFODNN7EXAMPLE';
const secret = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';
const keypair = { actor: { accessKey: key }, secretKey: secret, rateLimit: 0 } as Keypair;
const keypairs = { find: async (name: string) => (name === key ? keypair : undefined) };
const date = '2023-09-06T01:02:03.456789+00:00';
const now = Date.parse('2023-09-06T01:02:03.456Z');

const headers = {
  host: '127.0.0.1:8081',
  date,
  'content-type': 'text/plain',
  'x-backendai-version': 'v7.20230615',
};
const vector1 = '4a3ca6a42144cb7d615e9ba5e5411f8113ec13d37787641aea09a08661d44e3c';
const target1 = '/session/_/match?id=my-sess&x=1';

function authorization(signature: string, hash = 'SHA256'): string {
  return `BackendAI signMethod=HMAC-${hash}, credential=${key}:${signature}`;
}

async function attempt(
  change: Record<string, string | undefined>,
  options: AuthenticationOptions = {},
  nowMs = now,
  target = target1,
): Promise<string> {
  const all = Object.fromEntries(
    Object.entries({ ...headers, authorization: authorization(vector1), ...change }).filter(
      ([, value]) => value !== undefined,
    ),
  );
  try {
    await authenticate({ method: 'GET', target, headers: all }, keypairs, nowMs, options);
    return 'admitted';
  } catch (error) {
    if (hasCode(error, 'internal') || !(error instanceof Error)) throw error;
    return (error as { code?: string }).code ?? String(error);
  }
}

describe('signed requests', () => {
  test.each([
    ['GET', target1, date, '127.0.0.1:8081', 'text/plain', 'v7.20230615', vector1],
    [
      'POST',
      '/session',
      date,
      '127.0.0.1:8081',
      'application/json',
      'v7.20230615',
      '6d48ebf8e3183d8ccd2c00addfb076fa6e93960d58b511e8808cc4984989640a',
    ],
    [
      'GET',
      '/folders',
      '2024-02-29T23:59:59+00:00',
      'api.example.com',
      'text/plain',
      'v7.20230615',
      'e6c922d04e4c1d16a93bb2054717df8660c85b6f6c50e0e17dbe0af303ad2fe9',
    ],
    [
      'GET',
      '/stream/session/mysess1/tcpproxy?app=jupyter&arguments=%7B%22--x%22:+%221%22%7D',
      date,
      '127.0.0.1:8081',
      undefined,
      'v7.20230615',
      '3387e24a4b41864a5dcb3d85ea3806954c03ad1950eafd1c514bfb0f63ac5c1d',
    ],
    [
      'POST',
      '/session/mysess1/upload',
      date,
      '127.0.0.1:8081',
      'multipart/form-data; boundary=xyz',
      'v7.20230615',
      'aa48f56a3fe29beb0c1ae9f05da29dadd0bf8b27444a56738af9fb07610bd351',
    ],
    [
      'GET',
      '/',
      '2023-09-06T01:02:03+00:00',
      '127.0.0.1:8081',
      'text/plain',
      'v6.20220615',
      '45d29bf454ddae0b3b01272d71b9db38b499066d9f0f3cef8c0f3d6643a676b6',
    ],
  ])('vector: %s %s', async (method, target, dateLine, host, contentType, version, signature) => {
    const request = {
      method,
      target,
      headers: {
        host,
        date: dateLine,
        'content-type': contentType,
        'x-backendai-version': version,
        authorization: authorization(signature),
      },
    };
    await expect(authenticate(request, keypairs, Date.parse(dateLine))).resolves.toBe(keypair);
    await expect(authenticate({ ...request, method: 'PATCH' }, keypairs, Date.parse(dateLine))).rejects.toMatchObject({
      code: 'auth-bad-signature',
    });
  });

  test.each([
    ['no Authorization', { authorization: undefined }, 'auth-missing'],
    ['no date', { date: undefined }, 'auth-clock-skew'],
    ['an unreadable date', { date: 'now' }, 'auth-clock-skew'],
    ['no version', { 'x-backendai-version': undefined }, 'auth-malformed'],
    ['another scheme', { authorization: 'Bearer abc' }, 'auth-malformed'],
    ['no parameters', { authorization: 'BackendAI' }, 'auth-malformed'],
    ['no credential', { authorization: 'BackendAI signMethod=HMAC-SHA256' }, 'auth-malformed'],
    ['no signature', { authorization: `BackendAI signMethod=HMAC-SHA256, credential=${key}` }, 'auth-malformed'],
    ['an unknown hash', { authorization: authorization(vector1, 'CRC32') }, 'auth-malformed'],
    ['a broken hash', { authorization: authorization(vector1, 'MD5') }, 'auth-malformed'],
    [
      'an unknown key',
      { authorization: `BackendAI signMethod=HMAC-SHA256, credential=AKIAX:${vector1}` },
      'auth-unknown-key',
    ],
    ['a wrong signature', { authorization: authorization(vector1.replace('4', '5')) }, 'auth-bad-signature'],
    ['upper-case hexadecimal', { authorization: authorization(vector1.toUpperCase()) }, 'auth-bad-signature'],
    ['another host', { host: 'evil.example.com' }, 'auth-bad-signature'],
    ['the same moment written differently', { date: '2023-09-06T01:02:03.456789Z' }, 'auth-bad-signature'],
  ])('%s', async (_name, change, code) => {
    expect(await attempt(change)).toBe(code);
  });

  test('the clock may differ by less than fifteen minutes', async () => {
    const sent = Date.parse('2023-09-06T01:02:03.456Z') + 0.789;
    const quarter = 15 * 60_000;
    expect(await attempt({}, {}, sent + quarter)).toBe('auth-clock-skew');
    expect(await attempt({}, {}, sent + quarter - 1)).toBe('admitted');
    expect(await attempt({}, {}, sent - quarter)).toBe('auth-clock-skew');
    expect(await attempt({}, {}, sent - quarter + 1)).toBe('admitted');
  });

  test('date, version and scheme have older names', async () => {
    expect(await attempt({ date: undefined, 'x-backendai-date': date })).toBe('admitted');
    expect(await attempt({ date: undefined, 'x-sorna-date': date })).toBe('admitted');
    expect(await attempt({ authorization: authorization(vector1).replace('BackendAI', 'Sorna') })).toBe('admitted');
    const signature = signRequest(secret, {
      method: 'GET',
      target: target1,
      date,
      day: '20230906',
      host: headers.host,
      contentType: 'text/plain',
      versionHeader: 'x-sorna-version',
      version: 'v4.20190615',
    });
    const change = { 'x-backendai-version': undefined, 'x-sorna-version': 'v4.20190615' };
    expect(await attempt({ ...change, authorization: authorization(signature) })).toBe('admitted');
  });

  test('the day of the key is that of the date in its own offset', async () => {
    const line = 'Wed, 06 Sep 2023 08:30:00 +0900';
    const k1 = createHmac('sha256', secret).update('20230906').digest();
    const k2 = createHmac('sha256', k1).update(headers.host).digest();
    const empty = createHash('sha256').update('').digest('hex');
    const text = [
      'GET',
      target1,
      line,
      `host:${headers.host}`,
      'content-type:text/plain',
      'x-backendai-version:v7.20230615',
      empty,
    ];
    const signature = createHmac('sha256', k2).update(text.join('\n')).digest('hex');
    const at = Date.UTC(2023, 8, 5, 23, 30);
    expect(await attempt({ date: line, authorization: authorization(signature) }, {}, at)).toBe('admitted');
  });

  test.each(['sha224', 'sha384', 'sha512', 'sha3_256', 'blake2b', 'blake2s'])('the hash may be %s', async (name) => {
    const hash = { sha3_256: 'sha3-256', blake2b: 'blake2b512', blake2s: 'blake2s256' }[name] ?? name;
    const parts = {
      method: 'GET',
      target: target1,
      date,
      day: '20230906',
      host: headers.host,
      contentType: 'text/plain',
    };
    const signature = signRequest(secret, { ...parts, version: 'v7.20230615', hash });
    expect(await attempt({ authorization: authorization(signature, name.toUpperCase()) })).toBe('admitted');
  });

  test('a default port may be signed though the Host header lacks it', async () => {
    const parts = {
      method: 'GET',
      target: target1,
      date,
      day: '20230906',
      contentType: 'text/plain',
      version: 'v7.20230615',
    };
    const signature = signRequest(secret, { ...parts, host: 'api.example.com:443' });
    expect(await attempt({ host: 'api.example.com', authorization: authorization(signature) })).toBe('admitted');
  });

  test('a reverse proxy may take the prefix away, and may rename the host when it is trusted', async () => {
    const parts = { method: 'GET', date, day: '20230906', contentType: 'text/plain', version: 'v7.20230615' };
    const signature = signRequest(secret, { ...parts, host: 'api.example.com', target: `/api${target1}` });
    const change = { 'x-forwarded-host': 'api.example.com', authorization: authorization(signature) };
    expect(await attempt(change, { pathPrefix: '/api', trustProxy: true })).toBe('admitted');
    expect(await attempt(change, { pathPrefix: '/api', trustProxy: true }, now, `/api${target1}`)).toBe('admitted');
    expect(await attempt(change, { pathPrefix: '/api' })).toBe('auth-bad-signature');
    expect(await attempt(change, { trustProxy: true })).toBe('auth-bad-signature');
  });

  test('nothing a client can write makes it fail otherwise', async () => {
    const piece = fc.oneof(
      fc.string(),
      fc.constantFrom(
        'BackendAI ',
        'Sorna ',
        'signMethod=HMAC-',
        'SHA256',
        'constructor',
        ', ',
        'credential=',
        `${key}:`,
        '=',
        ':',
        date,
      ),
    );
    const text = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''));
    await fc.assert(
      fc.asyncProperty(text, fc.oneof(text, fc.constant(date)), fc.string(), async (value, dateText, version) => {
        const code = await attempt({ authorization: value, date: dateText, 'x-backendai-version': version });
        return code.startsWith('auth-');
      }),
      { numRuns: 2000 },
    );
  });
});

test('hosts and days in any order and number are told apart', async () => {
  const places = Array.from({ length: 40 }, (_, index) => ({
    host: `h${index}:8081`,
    date: `2023-09-06T01:02:0${index % 10}Z`,
    'x-backendai-version': 'v7.20230615',
  }));
  const sign = ({ host, date }: (typeof places)[number]): string =>
    signRequest(secret, {
      ...{ method: 'GET', target: target1, date, day: '20230906', host },
      ...{ contentType: 'text/plain', version: 'v7.20230615' },
    });
  for (const round of [places, [...places].reverse()]) {
    for (const [index, place] of round.entries()) {
      const other = round[(index + 1) % round.length] as (typeof places)[number];
      expect(await attempt({ ...place, authorization: authorization(sign(place)) })).toBe('admitted');
      expect(await attempt({ ...place, authorization: authorization(sign(other)) })).toBe('auth-bad-signature');
    }
  }
});
