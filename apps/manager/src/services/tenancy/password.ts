import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { Turns } from './turns.ts';

/**
 * Passwords are kept as `scrypt$<log2 N>$<r>$<p>$<salt>$<hash>`, so that costs may grow and old ones stay readable.
 * 2^15 rounds of 8 blocks take 32 MiB and some 100 ms.
 */
const cost = { log2N: 15, r: 8, p: 1 };
const hashBytes = 32;
/** The threads that do it are those that read files and look names up: most of them stay free for that. */
const turns = new Turns(2);

export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16);
  const hash = await derive(password, salt, cost.log2N, cost.r, cost.p);
  return ['scrypt', cost.log2N, cost.r, cost.p, salt.toString('base64url'), hash.toString('base64url')].join('$');
}

/** In constant time for a given cost. False also for what is no such hash. */
export async function isPassword(password: string, stored: string): Promise<boolean> {
  const [scheme, log2N, r, p, salt = '', hash = ''] = stored.split('$');
  const expected = Buffer.from(hash, 'base64url');
  if (scheme !== 'scrypt' || expected.length !== hashBytes) return false;
  const actual = await derive(password, Buffer.from(salt, 'base64url'), Number(log2N), Number(r), Number(p));
  return timingSafeEqual(actual, expected);
}

function derive(password: string, salt: Buffer, log2N: number, r: number, p: number): Promise<Buffer> {
  const N = 2 ** log2N;
  // The same password may be typed in two ways of composing its letters.
  const text = password.normalize('NFKC');
  return turns.run(
    () =>
      new Promise((resolve, reject) => {
        scrypt(text, salt, hashBytes, { N, r, p, maxmem: 256 * N * r }, (error, key) =>
          error ? reject(error) : resolve(key),
        );
      }),
  );
}
