import { closest, distance } from 'fastest-levenshtein';

/** The candidate that was probably meant: the same last word elsewhere, or few letters off. */
export function nearestKey(written: string, candidates: readonly string[]): string | undefined {
  if (candidates.length === 0) return undefined;
  const plain = (key: string): string => key.replaceAll('_', '-').toLowerCase();
  const lastWord = (key: string): string => key.slice(key.lastIndexOf('.') + 1);
  const text = plain(written);
  const byPlain = new Map(candidates.map((key) => [plain(key), key]));
  const best = closest(text, [...byPlain.keys()]);
  if (distance(text, best) <= 2) return byPlain.get(best);
  const elsewhere = [...byPlain.keys()].filter((key) => lastWord(key) === lastWord(text));
  if (elsewhere.length > 0) return byPlain.get(closest(text, elsewhere));
  return distance(text, best) <= text.length / 3 ? byPlain.get(best) : undefined;
}
