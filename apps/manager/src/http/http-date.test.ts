import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseHttpDate } from './http-date.ts';

const moment = Date.UTC(2023, 8, 6, 1, 2, 3);

describe('dates as clients write them', () => {
  test.each([
    ['2023-09-06T01:02:03+00:00', 0, '20230906'],
    ['2023-09-06T01:02:03.456789+00:00', 456.789, '20230906'],
    ['2023-09-06T01:02:03Z', 0, '20230906'],
    ['2023-09-06T01:02:03', 0, '20230906'],
    ['2023-09-06 01:02:03', 0, '20230906'],
    ['2023-09-06T10:02:03+09:00', 0, '20230906'],
    ['2023-09-06T10:02:03+0900', 0, '20230906'],
    ['2023-09-05T20:02:03-05', 0, '20230905'],
    ['20230906T010203Z', 0, '20230906'],
    ['Wed, 06 Sep 2023 01:02:03 GMT', 0, '20230906'],
    ['Wed, 6 Sep 2023 01:02:03 +0000', 0, '20230906'],
    ['Tue, 05 Sep 2023 21:02:03 EDT', 0, '20230905'],
    ['Wed, 06 Sep 2023 10:02:03 KST', 0, '20230906'],
    ['Wednesday, 06-Sep-23 01:02:03 GMT', 0, '20230906'],
    ['Wed Sep  6 01:02:03 2023', 0, '20230906'],
    ['Wed Sep 6 10:02:03 JST 2023', 0, '20230906'],
    ['Wed Sep 06 2023 10:02:03 GMT+0900 (Korean Standard Time)', 0, '20230906'],
  ])('%s', (text, fraction, day) => {
    const parsed = parseHttpDate(text);
    expect(parsed?.epochMs).toBeCloseTo(moment + fraction, 2);
    expect(parsed?.day).toBe(day);
  });

  test.each([
    '',
    'yesterday',
    '2023-13-01T00:00:00Z',
    '2023-02-30T00:00:00Z',
    '2023-02-28T24:00:00Z',
    '2023-09-06T01:02:03 constructor',
    'Wed, 06 Foo 2023 01:02:03 GMT',
    'Wed, 06 Sep 2023 01:02:03 XYZ',
    `${'9'.repeat(5000)}`,
  ])('is no date: %s', (text) => expect(parseHttpDate(text)).toBeUndefined());

  test('whatever comes, it answers', () => {
    fc.assert(fc.property(fc.string(), (text) => parseHttpDate(text) === undefined || true));
    fc.assert(
      fc.property(
        fc.date({ min: new Date('1971-01-01'), max: new Date('2100-01-01'), noInvalidDate: true }),
        (date) =>
          parseHttpDate(date.toISOString())?.epochMs === date.getTime() &&
          parseHttpDate(date.toUTCString())?.epochMs === Math.floor(date.getTime() / 1000) * 1000,
      ),
    );
  });
});
