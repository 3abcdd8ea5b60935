import type { IncomingHttpHeaders } from 'node:http';
import { AppError, type SignedParts, sameSecret, signingKey, signWithKey } from '@backend.ai/core';
import type { Keypair, Keypairs } from './dependencies.ts';
import { type ParsedDate, parseHttpDate } from './http-date.ts';

/**
 * Request signing with a keypair, as the official clients do it. The body is not signed; who wants its integrity uses
 * TLS. A signature is valid for the method that is executed (after `X-Method-Override`), so that nobody can turn a
 * captured GET into a DELETE.
 */
export interface SignedRequest {
  readonly method: string;
  /** As on the request line, never decoded and encoded again. */
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
}

export interface AuthenticationOptions {
  /** Path that a reverse proxy takes away from the front of what clients sign. */
  readonly pathPrefix?: string | undefined;
  /** Believe `X-Forwarded-Host`. */
  readonly trustProxy?: boolean | undefined;
}

interface Credentials {
  readonly accessKey: string;
  readonly signature: string;
  readonly hash: string;
  readonly date: string;
  readonly day: string;
  readonly version: string;
  readonly versionHeader: string;
}

const maxSkewMs = 15 * 60_000;

/**
 * Hash names of `signMethod=HMAC-<name>` and what Node calls them. HMAC does not need collision resistance, but MD5 and
 * SHA-1 are refused all the same: no client uses them, and hardened OpenSSL builds lack them.
 */
const hashes: ReadonlyMap<string, string> = new Map([
  ['sha224', 'sha224'],
  ['sha256', 'sha256'],
  ['sha384', 'sha384'],
  ['sha512', 'sha512'],
  ['sha3_224', 'sha3-224'],
  ['sha3_256', 'sha3-256'],
  ['sha3_384', 'sha3-384'],
  ['sha3_512', 'sha3-512'],
  ['blake2b', 'blake2b512'],
  ['blake2s', 'blake2s256'],
]);

/** What may stand in `X-BackendAI-Version`. The body was part of the signature before v4.20181215: not offered. */
const apiVersions: ReadonlySet<string> = new Set([
  'v4.20181215',
  'v4.20190115',
  'v4.20190315',
  'v4.20190615',
  'v5.20191215',
  'v6.20200815',
  'v6.20210815',
  'v6.20220315',
  'v6.20220615',
  'v6.20221201',
  'v6.20230315',
  'v7.20230615',
  'v8.20240315',
  'v8.20240915',
  'v9.20250722',
]);

/** @throws AppError `unsupported-feature` when the request speaks a version of the API that is not offered */
export function checkApiVersion(headers: IncomingHttpHeaders): void {
  const version = versionOf(headers)?.version;
  if (version !== undefined && !apiVersions.has(version)) {
    throw new AppError('unsupported-feature', 'This version of the API is not offered.', {
      hint: `Send X-BackendAI-Version: v7.20230615, or one of: ${[...apiVersions].join(', ')}`,
    });
  }
}

/**
 * The keypair whose secret signed the request.
 * @throws AppError `auth-missing`, `auth-clock-skew`, `auth-malformed`, `auth-unknown-key`, `auth-bad-signature`
 */
export async function authenticate(
  request: SignedRequest,
  keypairs: Pick<Keypairs, 'find'>,
  nowMs: number,
  options: AuthenticationOptions = {},
): Promise<Keypair> {
  const credentials = parseCredentials(request.headers, nowMs);
  const keypair = await keypairs.find(credentials.accessKey);
  if (!keypair) throw new AppError('auth-unknown-key', 'Access key not found');
  if (!isSignedBy(keypair, credentials, request, options))
    throw new AppError('auth-bad-signature', 'Signature mismatch');
  return keypair;
}

function parseCredentials(headers: IncomingHttpHeaders, nowMs: number): Credentials {
  const authorization = headers.authorization;
  if (authorization === undefined) throw new AppError('auth-missing', 'Unauthorized access');
  const { text, parsed } = readDate(headers);
  if (!(parsed.epochMs > nowMs - maxSkewMs && parsed.epochMs < nowMs + maxSkewMs))
    throw new AppError('auth-clock-skew', 'Date/time sync error', {
      data: { serverTime: new Date(nowMs).toISOString() },
    });
  const version = versionOf(headers);
  if (!version) throw new AppError('auth-malformed', 'The header X-BackendAI-Version is missing.');
  return { ...parseAuthorization(authorization), ...version, date: text, day: parsed.day };
}

function readDate(headers: IncomingHttpHeaders): { text: string; parsed: ParsedDate } {
  const text = headers.date ?? single(headers['x-backendai-date']) ?? single(headers['x-sorna-date']);
  const parsed = text === undefined ? undefined : parseHttpDate(text);
  if (text === undefined || !parsed) throw new AppError('auth-clock-skew', 'Date/time sync error');
  return { text, parsed };
}

function versionOf(headers: IncomingHttpHeaders): { version: string; versionHeader: string } | undefined {
  for (const versionHeader of ['x-backendai-version', 'x-sorna-version']) {
    const version = single(headers[versionHeader]);
    if (version !== undefined) return { version, versionHeader };
  }
  return undefined;
}

function parseAuthorization(text: string): Pick<Credentials, 'accessKey' | 'signature' | 'hash'> {
  const malformed = (message: string): AppError => new AppError('auth-malformed', message);
  const match = /^(\S+)\s+(.*)$/s.exec(text.trim());
  if (!match) throw malformed('The Authorization header has no scheme and parameters.');
  if (!/^(?:BackendAI|Sorna)$/i.test(match[1] ?? '')) throw malformed('The Authorization header has another scheme.');
  const pairs = new Map<string, string>();
  for (const piece of (match[2] ?? '').split(',')) {
    const at = piece.indexOf('=');
    if (at > 0) pairs.set(piece.slice(0, at).trim(), piece.slice(at + 1).trim());
  }
  const hash = hashes.get(/^HMAC-(.+)$/i.exec(pairs.get('signMethod') ?? '')?.[1]?.toLowerCase() ?? '');
  if (hash === undefined) throw malformed('The signMethod of the Authorization header is missing or not offered.');
  const credential = pairs.get('credential') ?? '';
  const colon = credential.indexOf(':');
  if (colon <= 0 || colon === credential.length - 1)
    throw malformed('The credential of the Authorization header is missing or has no signature.');
  return { accessKey: credential.slice(0, colon), signature: credential.slice(colon + 1), hash };
}

/**
 * Signing keys that were derived from a key pair, which are asked for again and again. They go with the key pair itself,
 * which the caller of `authenticate` forgets after a few seconds.
 */
const derivedKeys = new WeakMap<Keypair, Map<string, Buffer>>();
/** Days and hosts come from senders that are not known yet. */
const maxDerived = 16;

function derivedKey(keypair: Keypair, parts: Pick<SignedParts, 'day' | 'host' | 'hash'>): Buffer {
  let keys = derivedKeys.get(keypair);
  if (!keys || keys.size >= maxDerived) {
    keys = new Map();
    derivedKeys.set(keypair, keys);
  }
  const name = `${parts.hash} ${parts.day} ${parts.host}`;
  let key = keys.get(name);
  if (!key) {
    key = signingKey(keypair.secretKey, parts);
    keys.set(name, key);
  }
  return key;
}

function isSignedBy(
  keypair: Keypair,
  credentials: Credentials,
  request: SignedRequest,
  options: AuthenticationOptions,
): boolean {
  const { accessKey: _, signature, ...parts } = credentials;
  const contentType = (request.headers['content-type'] ?? 'application/octet-stream').split(';', 1)[0]?.trim() ?? '';
  let matches = false;
  for (const target of targetsOf(request.target, options.pathPrefix))
    for (const host of hostsOf(request.headers, options.trustProxy ?? false)) {
      const signed = { ...parts, method: request.method, target, host, contentType };
      const expected = signWithKey(derivedKey(keypair, signed), signed);
      matches = sameSecret(signature, expected) || matches;
    }
  return matches;
}

/** A proxy may have taken the prefix away, or left it. */
function targetsOf(target: string, prefix: string | undefined): string[] {
  return prefix ? [target, `${prefix}${target}`] : [target];
}

/** Clients sign the host of their configured URL: an explicit default port stands there, but not in the Host header. */
function hostsOf(headers: IncomingHttpHeaders, trustProxy: boolean): Set<string> {
  const forwarded = trustProxy ? single(headers['x-forwarded-host'])?.split(',', 1)[0]?.trim() : undefined;
  const hosts = new Set<string>();
  for (const host of [headers.host ?? '', forwarded ?? '']) {
    if (host === '' && hosts.size > 0) continue;
    for (const name of [host, host.toLowerCase()]) {
      hosts.add(name);
      if (!/:\d+$/.test(name)) hosts.add(`${name}:80`).add(`${name}:443`);
    }
  }
  return hosts;
}

function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(', ') : value;
}
