import { randomBytes } from 'node:crypto';

declare const brand: unique symbol;
/** A string that may not be confused with an id of another kind. */
export type Id<Kind extends string> = string & { readonly [brand]: Kind };

export type SessionId = Id<'session'>;
export type KernelId = Id<'kernel'>;
/** Name of an agent, chosen by its operator: `i-` and a host name by default. */
export type AgentId = Id<'agent'>;
export type UserId = Id<'user'>;
export type ProjectId = Id<'project'>;
export type AccessKey = Id<'access-key'>;
export type RunId = Id<'run'>;
export type RequestId = Id<'request'>;

/** Sixteen bytes of randomness per call; tests pass a seeded one. */
export type RandomBytes = (size: number) => Uint8Array;

const pool = { bytes: new Uint8Array(0), used: 0 };

/** Random bytes from a pool: one call of the system per few hundred ids, since the call costs more than the id. */
function pooledRandomBytes(size: number): Uint8Array {
  if (pool.used + size > pool.bytes.length) {
    pool.bytes = randomBytes(4_096);
    pool.used = 0;
  }
  pool.used += size;
  return pool.bytes.subarray(pool.used - size, pool.used);
}

let lastMs = 0;
let sequence = 0;

/**
 * A UUID of version 7 (RFC 9562 §5.7): its text sorts by creation time, also within one millisecond of one process,
 * so that it serves as primary key and as order of arrival.
 */
export function newId<T extends string = string>(
  nowMs: number = Date.now(),
  random: RandomBytes = pooledRandomBytes,
): T {
  if (nowMs > lastMs) {
    lastMs = nowMs;
    sequence = ((random(2)[0] ?? 0) << 3) & 0x7ff;
  } else {
    sequence += 1;
    if (sequence > 0xfff) {
      lastMs += 1;
      sequence = 0;
    }
  }
  const bytes = new Uint8Array(16);
  bytes.set(random(8), 8);
  let ms = lastMs;
  for (let i = 5; i >= 0; i--) {
    bytes[i] = ms % 256;
    ms = Math.floor(ms / 256);
  }
  bytes[6] = 0x70 | (sequence >> 8);
  bytes[7] = sequence & 0xff;
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  const hex = Buffer.from(bytes).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}` as T;
}

const uuidPattern = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;

export function isUuid(text: string): boolean {
  return uuidPattern.test(text);
}

/** Every request id we accept from outside. Anything else is replaced by a new one. */
export const requestIdPattern: RegExp = /^[A-Za-z0-9._:-]{1,128}$/;

export function newRequestId(): RequestId {
  return newId<RequestId>();
}

/** The given value if it is an acceptable request id, else undefined. */
export function parseRequestId(value: unknown): RequestId | undefined {
  return typeof value === 'string' && requestIdPattern.test(value) ? (value as RequestId) : undefined;
}
