import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isUuid, newId, newRequestId, requestIdPattern } from './ids.ts';

describe('newId', () => {
  it('makes UUIDs of version 7 and the RFC 9562 variant', () => {
    const id = newId();
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(isUuid(id)).toBe(true);
  });

  it('carries the time in its first 48 bits', () => {
    const now = Date.now() + 60_000;
    expect(Number.parseInt(newId(now).replace('-', '').slice(0, 12), 16)).toBe(now);
  });

  it('sorts by order of making, whatever the clock does', () => {
    const start = Date.now() + 120_000;
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -50, max: 50 }), { minLength: 2, maxLength: 300 }), (jumps) => {
        const ids = jumps.map((jump) => newId(start + jump));
        expect(ids).toEqual([...ids].sort());
        expect(new Set(ids).size).toBe(ids.length);
      }),
    );
  });

  it('stays unique and sorted when one millisecond has more ids than sequence numbers', () => {
    const now = Date.now() + 600_000;
    const ids = Array.from({ length: 20_000 }, () => newId(now));
    expect(ids).toEqual([...ids].sort());
    expect(new Set(ids).size).toBe(ids.length);
  });
});

it('a new request id is acceptable as one', () => {
  expect(newRequestId()).toMatch(requestIdPattern);
});
