import type { RateCount } from './dependencies.ts';

const windowSeconds = 900;
/** Announced to callers without a login; nothing enforces it. */
const anonymousLimit = 1000;
/** Clients read a number here; this one stands for "unlimited". */
const unlimited = 2_147_483_647;

export function rateHeaders(count: RateCount | undefined): Record<string, string> {
  const limit = count === undefined ? anonymousLimit : count.limit === 0 ? unlimited : count.limit;
  const remaining = count === undefined ? anonymousLimit : count.limit === 0 ? unlimited : Math.max(0, count.remaining);
  return {
    'X-RateLimit-Limit': String(limit),
    'X-RateLimit-Remaining': String(remaining),
    'X-RateLimit-Window': String(windowSeconds),
  };
}

export function isOverLimit(count: RateCount): boolean {
  return count.limit > 0 && count.remaining < 0;
}
