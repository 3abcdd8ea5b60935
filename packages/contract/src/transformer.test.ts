import fc from 'fast-check';
import superjson from 'superjson';
import { describe, expect, it } from 'vitest';
import { transformer } from './transformer.ts';

const onWire = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** Names that could pollute a prototype are refused by superjson, wherever it meets them. */
const acceptable = (value: unknown): boolean => {
  try {
    superjson.serialize(value);
    return true;
  } catch {
    return false;
  }
};

describe('values that travel', () => {
  it('arrive as they left, whatever they are', () => {
    const anything = fc.anything({ withDate: true, withMap: true, withSet: true, withBigInt: true, maxDepth: 4 });
    fc.assert(
      fc.property(anything.filter(acceptable), (value) => {
        const sent = onWire(superjson.serialize(value));
        const received = transformer.deserialize(onWire(transformer.serialize(value)) as never);
        expect(received).toEqual(superjson.deserialize(sent as never));
      }),
    );
  });

  it('have the form that superjson gives them', () => {
    fc.assert(
      fc.property(fc.jsonValue().filter(acceptable), (value) => {
        expect(onWire(transformer.serialize(value))).toEqual(onWire(superjson.serialize(value)));
      }),
    );
  });

  it.each(['constructor', 'prototype', '__proto__'])('may have a field %s, which stays a field', (name) => {
    const value = JSON.parse(`{"${name}":{"isAdmin":true}}`) as object;
    const received = transformer.deserialize(onWire(transformer.serialize(value)) as never) as { isAdmin?: boolean };
    expect(Object.getOwnPropertyNames(received)).toEqual([name]);
    expect(received.isAdmin).toBeUndefined();
    expect(Object.getPrototypeOf(received)).toBe(Object.prototype);
  });

  it('that are JSON are not copied', () => {
    const value = { list: [1, 'a', null, true], inner: { x: 1.5 } };
    expect((transformer.serialize(value) as { json: unknown }).json).toBe(value);
  });

  it.each([
    ['a date', { at: new Date(0) }],
    ['a field without a value', { at: undefined }],
    ['a negative zero', -0],
    ['no number', Number.NaN],
    ['a map', new Map([['a', 1]])],
  ])('%s survives', (_name, value) => {
    const received = transformer.deserialize(onWire(transformer.serialize(value)) as never);
    expect(received).toEqual(superjson.deserialize(onWire(superjson.serialize(value)) as never));
    expect((transformer.serialize(value) as { meta?: unknown }).meta).toBeDefined();
  });

  it('that contain themselves do not hang', () => {
    const loop: Record<string, unknown> = {};
    loop.self = loop;
    expect(transformer.serialize(loop)).toMatchObject({ meta: { referentialEqualities: expect.anything() } });
  });
});
