import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatBinarySize, parseBinarySize } from './binary-size.ts';

describe('binary sizes', () => {
  it.each([
    ['536870912', 536_870_912n],
    ['1_024', 1_024n],
    ['512m', 536_870_912n],
    ['1.5g', 1_610_612_736n],
    ['2GiB', 2_147_483_648n],
    ['2 gb', 2_147_483_648n],
    ['10bytes', 10n],
    ['3.0', 3n],
  ])('reads %s', (text, bytes) => {
    expect(parseBinarySize(text)).toBe(bytes);
  });

  it.each(['', 'm', '-1', '1.5', '1e3', '1x', '0x10', '1..5g', 'NaN'])('refuses "%s"', (text) => {
    expect(() => parseBinarySize(text)).toThrow(expect.objectContaining({ code: 'invalid-input' }));
  });

  it('reads every plain number of bytes as it is', () => {
    fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 80n }), (bytes) => parseBinarySize(String(bytes)) === bytes));
  });

  it('writes what reads back within half a hundredth of the unit', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 80n }), (bytes) => {
        const text = formatBinarySize(bytes);
        const read = parseBinarySize(text);
        const difference = read > bytes ? read - bytes : bytes - read;
        expect(difference * 200n).toBeLessThanOrEqual(bytes + 200n);
        expect(text).toMatch(/^\d{1,4}(\.\d{0,1}[1-9])?[kmgtpezy]?$/);
        expect(text).not.toMatch(/^1024[kmgtpez]/);
      }),
    );
  });

  it('writes whole units exactly', () => {
    expect(formatBinarySize(512n * 1_024n ** 2n)).toBe('512m');
    expect(formatBinarySize(1_610_612_736)).toBe('1.5g');
    expect(formatBinarySize(1_023)).toBe('1023');
    expect(formatBinarySize(1_024 ** 2 - 1)).toBe('1m');
  });
});
