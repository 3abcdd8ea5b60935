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

/** Random bytes for a few hundred ids: a call of the system costs more than an id. */
let pool = randomBytes(4_096);
let used = 0;

/** Where in the pool `size` fresh bytes are. */
function freshBytes(size: number): number {
  if (used + size > pool.length) {
    pool = randomBytes(pool.length);
    used = 0;
  }
  used += size;
  return used - size;
}

/**
 * The text of the last id, to be written over: most events and requests need a new one, and putting strings together is
 * slow.
 */
const text = Buffer.from('00000000-0000-7000-8000-000000000000');
const digits = Buffer.from('0123456789abcdef');

let lastMs = 0;
let sequence = 0;

/**
 * A UUID of version 7 (RFC 9562 §5.7): its text sorts by creation time, also within one millisecond of one process,
 * so that it serves as primary key and as order of arrival.
 */
export function newId<T extends string = string>(nowMs: number = Date.now()): T {
  if (nowMs > lastMs) {
    startAt(nowMs);
    sequence = (pool[freshBytes(1)]! << 3) & 0x7ff;
  } else if (sequence < 0xfff) sequence += 1;
  else {
    startAt(lastMs + 1);
    sequence = 0;
  }
  text[15] = digits[sequence >> 8]!;
  write(16, sequence & 0xff);
  const random = freshBytes(8);
  write(19, 0x80 | (pool[random]! & 0x3f));
  write(21, pool[random + 1]!);
  for (let index = 2; index < 8; index++) write(20 + index * 2, pool[random + index]!);
  return text.toString('latin1') as T;
}

function startAt(ms: number): void {
  lastMs = ms;
  const hex = ms.toString(16).padStart(12, '0');
  text.write(`${hex.slice(0, 8)}-${hex.slice(8)}`, 'latin1');
}

/** Writes a byte as two digits. */
function write(at: number, byte: number): void {
  text[at] = digits[byte >> 4]!;
  text[at + 1] = digits[byte & 0xf]!;
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
