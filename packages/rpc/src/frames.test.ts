import { hasCode } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ClientFrame,
  decodeClientFrame,
  decodeServerFrame,
  decodeValue,
  encodeCancel,
  encodeDone,
  encodeError,
  encodeItem,
  encodeOperation,
  encodeResult,
  encodeValue,
  type OperationFrame,
  peekId,
  peekRequestId,
} from './frames.ts';

const requestId = fc.stringMatching(/^[A-Za-z0-9._:-]{1,128}$/);
const operation = fc.record({
  id: fc.integer({ min: 1, max: 2 ** 50 }),
  path: fc.string(),
  type: fc.constantFrom('query' as const, 'mutation' as const, 'subscription' as const),
  requestId,
  input: fc.jsonValue(),
  deadlineMs: fc.option(fc.integer({ min: 1, max: 1e6 }), { nil: undefined }),
});

describe('frames', () => {
  it('decode to what was encoded, each on one line', () => {
    fc.assert(
      fc.property(operation, (given) => {
        const outgoing = {
          ...given,
          headersText: JSON.stringify({ request_id: given.requestId }),
          inputText: encodeValue(given.input),
        };
        const text = encodeOperation(outgoing, given.deadlineMs, undefined);
        expect(text).not.toContain('\n');
        const frame = decodeClientFrame(text) as OperationFrame;
        expect(frame).toMatchObject({ id: given.id, path: given.path, type: given.type });
        expect(frame.headers.request_id).toBe(given.requestId);
        expect(frame.deadlineMs).toBe(given.deadlineMs);
        expect(frame).not.toHaveProperty('request_id');
        // What JSON itself does to a value (a negative zero) is not undone.
        expect(decodeValue(frame.input)).toEqual(given.input);
        expect(peekId(text)).toBe(given.id);
      }),
    );
  });

  it('carry the request id a second time at the top level for peers of version 2', () => {
    const outgoing = { id: 1, path: 'p', type: 'query' as const, headersText: '{"request_id":"r-1"}', inputText: '{}' };
    expect(JSON.parse(encodeOperation(outgoing, 5, 'r-1'))).toEqual({
      id: 1,
      path: 'p',
      type: 'query',
      headers: { request_id: 'r-1' },
      request_id: 'r-1',
      input: {},
      deadlineMs: 5,
    });
  });

  it('of answers decode to what was encoded', () => {
    fc.assert(
      fc.property(requestId, fc.jsonValue(), (id, value) => {
        const result = decodeServerFrame(encodeResult(3, id, value));
        expect([result.request_id, decodeValue(result.result!)]).toEqual([id, value]);
        const item = decodeServerFrame(encodeItem(3, id, value));
        expect(decodeValue(item.item!)).toEqual(value);
        expect(decodeServerFrame(encodeDone(3, id)).done).toBe(true);
      }),
    );
    const body = { code: 'internal', category: 'operator', message: 'No.', hint: 'Ask.' } as const;
    expect(decodeServerFrame(encodeError(3, 'r', body)).error).toEqual(body);
  });

  it('that are garbage are refused with one code and nothing worse', () => {
    const almost = fc.record(
      { id: fc.anything(), type: fc.anything(), path: fc.anything(), headers: fc.anything(), input: fc.anything() },
      { requiredKeys: [] },
    );
    const texts = fc.oneof(
      fc.string(),
      fc.json(),
      almost.map(
        (value) => JSON.stringify(value, (_, inner) => (typeof inner === 'bigint' ? `${inner}` : inner)) ?? '',
      ),
      fc.tuple(operation, fc.nat()).map(([given, cut]) => {
        const text = encodeOperation(
          { ...given, headersText: '{}', inputText: encodeValue(given.input) },
          undefined,
          undefined,
        );
        return text.slice(0, cut % text.length);
      }),
    );
    const decodes = (decode: (text: string) => unknown, text: string): boolean => {
      try {
        decode(text);
        return true;
      } catch (error) {
        return hasCode(error, 'malformed-body');
      }
    };
    fc.assert(
      fc.property(texts, (text) => {
        expect(decodes(decodeClientFrame, text)).toBe(true);
        expect(decodes(decodeServerFrame, text)).toBe(true);
        peekId(text);
      }),
      { numRuns: 500 },
    );
  });

  it('keep what JSON alone would lose', () => {
    const rich = { at: new Date(1), map: new Map([['a', 1n]]), none: undefined, not: Number.NaN, minus: -0 };
    expect(decodeValue(JSON.parse(encodeValue(rich)))).toEqual(rich);
    expect(decodeValue(JSON.parse(encodeValue(undefined)))).toBeUndefined();
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    const back = decodeValue(JSON.parse(encodeValue(cycle))) as Record<string, unknown>;
    expect(back.self).toBe(back);
  });

  it('do not let a path reach the prototypes of objects', () => {
    const frame = decodeClientFrame(
      '{"id":1,"path":"p","type":"query","input":{"json":{},"meta":{"values":{"__proto__.polluted":["Date"]}}}}',
    );
    expect(() => decodeValue((frame as OperationFrame).input)).toThrow();
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it('name their operation also when they are not parsed', () => {
    expect(peekId('{"id":12,"path":"big"')).toBe(12);
    expect(peekId(encodeCancel(4))).toBe(4);
    expect(peekId('{"path":"big","id":12')).toBeUndefined();
    expect(peekRequestId('{"id":1,"path":"p","type":"query","headers":{"request_id":"r-1"},"in')).toBe('r-1');
    expect((decodeClientFrame(encodeCancel(4)) satisfies ClientFrame).id).toBe(4);
  });
});
