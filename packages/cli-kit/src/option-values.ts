import { UsageError } from 'clipanion';

/** Values of options; what is wrong in them is wrong usage (exit code 2). */

/** `['cpu=1', 'mem=512m']` as an object. */
export function parsePairs(option: string, pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at <= 0) throw new UsageError(`${option} takes NAME=VALUE, not "${pair}".`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

const unitMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  y: 31_536_000_000,
};

/** `500ms`, `10s`, `1.5h`; a bare number counts seconds. */
export function parseDurationMs(option: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w|y)?$/.exec(text.trim());
  if (!match) throw new UsageError(`${option} takes a time such as 30s or 5m, not "${text}".`);
  return Math.round(Number(match[1]) * (unitMs[match[2] ?? 's'] ?? 1000));
}

/** A time that somebody means: with its unit, and longer than nothing. For what cannot be taken back. */
export function parseSpanMs(option: string, text: string): number {
  const spanMs = /[a-z]\s*$/.test(text) ? parseDurationMs(option, text) : 0;
  if (spanMs > 0) return spanMs;
  throw new UsageError(`${option} takes a time with its unit, such as 12h, 7d or 1y, not "${text}".`);
}

/** A whole number that is not negative; undefined when the option was not given. */
export function parseWhole(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`${option} takes a whole number, not "${text}".`);
  return Number(text);
}

/** A TCP port, 0 for any free one. */
export function parsePort(option: string, text: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text);
  throw new UsageError(`${option} takes a number from 0 to 65535, not "${text}".`);
}
