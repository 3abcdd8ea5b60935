import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/** Names the key pair for whose owner the signer acts. */
export const ownerAccessKeyHeader = 'x-backendai-owner-access-key';

/**
 * HMAC signing of API requests, as the clients of the original do it (API v4.20181215 and later: the body is not
 * signed; the hash of the empty text stands in its place).
 */
export interface SignedParts {
  readonly method: string;
  /** Path and query exactly as on the request line. */
  readonly target: string;
  /** The text of the date header, verbatim. */
  readonly date: string;
  /** `YYYYMMDD` of that date in its own offset. */
  readonly day: string;
  /** Host header: name and, if the URL had one, port. */
  readonly host: string;
  /** Media type without parameters. */
  readonly contentType: string;
  /** `x-backendai-version`, or `x-sorna-version` for the oldest clients. */
  readonly versionHeader?: string;
  readonly version: string;
  /** As `crypto.createHash` names it. */
  readonly hash?: string;
}

const defaultHash = 'sha256';

/** Of the empty text, by hash: the same in every request. */
const emptyHashes = new Map<string, string>();

function emptyHash(hash: string): string {
  let known = emptyHashes.get(hash);
  if (known === undefined) {
    known = createHash(hash).update('').digest('hex');
    emptyHashes.set(hash, known);
  }
  return known;
}

/** The signature in lower-case hexadecimal. */
export function signRequest(secretKey: string, parts: SignedParts): string {
  return signWithKey(signingKey(secretKey, parts), parts);
}

/** What a secret key signs with on one day for one host: as secret as the key itself. */
export function signingKey(secretKey: string, parts: Pick<SignedParts, 'day' | 'host' | 'hash'>): Buffer {
  const hash = parts.hash ?? defaultHash;
  const dayKey = createHmac(hash, secretKey).update(parts.day).digest();
  return createHmac(hash, dayKey).update(parts.host).digest();
}

/** As `signRequest`, for those who sign or check often. */
export function signWithKey(key: Buffer, parts: SignedParts): string {
  const hash = parts.hash ?? defaultHash;
  const text = [
    parts.method.toUpperCase(),
    parts.target,
    parts.date,
    `host:${parts.host}`,
    `content-type:${parts.contentType.toLowerCase()}`,
    `${parts.versionHeader ?? 'x-backendai-version'}:${parts.version}`,
    emptyHash(hash),
  ].join('\n');
  return createHmac(hash, key).update(text).digest('hex');
}

/** Compares in time that does not depend on the content. Lengths are no secret: that of a signature is its hash's. */
export function sameSecret(left: string, right: string): boolean {
  const [a, b] = [Buffer.from(left), Buffer.from(right)];
  return a.length === b.length && timingSafeEqual(a, b);
}
