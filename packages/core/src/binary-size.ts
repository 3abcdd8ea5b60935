import { AppError } from './errors.ts';

const pattern = /^(\d[\d_]*)(?:\.(\d+))?\s*(?:([kmgtpezy])(?:ib|ibytes?|b|bytes?)?|b|bytes?)?$/i;
const suffixes = 'kmgtpezy';

/**
 * Bytes from texts such as `536870912`, `1_024`, `512m`, `1.5g`, `2GiB`. Suffixes are powers of 1024, in any case.
 * A fraction needs a suffix unless it is zero.
 * @throws AppError `invalid-input`
 */
export function parseBinarySize(text: string | number): bigint {
  const source = String(text).trim();
  const match = pattern.exec(source);
  if (!match) throw sizeError(source);
  const [, whole = '0', fraction = '', suffix] = match;
  const scale = suffix ? 1024n ** BigInt(suffixes.indexOf(suffix.toLowerCase()) + 1) : 1n;
  const integral = BigInt(whole.replaceAll('_', '')) * scale;
  if (!fraction || /^0+$/.test(fraction)) return integral;
  if (scale === 1n) throw sizeError(source);
  return integral + (BigInt(fraction) * scale) / 10n ** BigInt(fraction.length);
}

function sizeError(source: string): AppError {
  return new AppError('invalid-input', `"${source}" is not a size.`, {
    hint: 'Write bytes or a number with k, m, g or t, as in 512m or 1.5g.',
  });
}

/** The shortest form with a lower-case suffix and at most two decimals: `512m`, `1.5g`. */
export function formatBinarySize(bytes: bigint | number): string {
  const value = BigInt(bytes);
  let unit = -1;
  let scale = 1n;
  // What would round up to 1024 of a unit is one of the next.
  while (unit + 1 < suffixes.length && value * 200n >= scale * (unit < 0 ? 204_800n : 204_799n)) {
    scale *= 1024n;
    unit += 1;
  }
  if (unit < 0) return String(value);
  const hundredths = (value * 100n + scale / 2n) / scale;
  const text = `${hundredths / 100n}.${String(hundredths % 100n).padStart(2, '0')}`.replace(/\.?0+$/, '');
  return `${text}${suffixes[unit]}`;
}
