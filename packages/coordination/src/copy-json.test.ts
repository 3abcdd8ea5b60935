import fc from 'fast-check';
import { expect, it } from 'vitest';
import { copyJson } from './copy-json.ts';

const throughText = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null) ?? 'null');

it('gives what a way through JSON text gives', () => {
  const odd = fc.oneof(
    fc.date({ noInvalidDate: true }),
    fc.constant(() => 1),
    fc.constant(Symbol('s')),
    fc.double(),
  );
  const values = fc.anything({ values: [fc.string(), fc.integer(), fc.boolean(), odd], withNullPrototype: true });
  fc.assert(
    fc.property(values, (value) => {
      expect(copyJson(value)).toStrictEqual(throughText(value));
    }),
    { numRuns: 500 },
  );
  expect(copyJson([undefined, Number.NaN, -0, { a: undefined }])).toStrictEqual([null, null, 0, {}]);
  expect(copyJson(JSON.parse('{"__proto__": {"x": 1}}'))).toStrictEqual(JSON.parse('{"__proto__": {"x": 1}}'));
});

it('shares nothing with what it copies', () => {
  const value = { list: [{ a: 1 }] };
  const copy = copyJson(value) as typeof value;
  copy.list[0]!.a = 2;
  expect(value.list[0]!.a).toBe(1);
});

it('refuses what contains itself, as JSON does', () => {
  const cycle: { self?: unknown } = {};
  cycle.self = cycle;
  expect(() => copyJson(cycle)).toThrow(TypeError);
});
