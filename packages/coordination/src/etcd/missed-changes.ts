import type { ConfigChange, ConfigEntry } from '../config-store.ts';

/**
 * The last change of each key between two looks, in order of revisions. When a key was deleted is not known: it counts as
 * deleted at the second look.
 *
 * @param known Revisions of the keys at the first look.
 * @param revision Of the whole store at the second one.
 */
export function missedChanges(
  known: ReadonlyMap<string, number>,
  present: readonly ConfigEntry[],
  revision: number,
): ConfigChange[] {
  const changed = present.filter((entry) => known.get(entry.key) !== entry.revision);
  const left = new Set(present.map(({ key }) => key));
  const deleted = [...known.keys()].filter((key) => !left.has(key)).map((key) => ({ key, value: null, revision }));
  return [...changed.sort((one, other) => one.revision - other.revision), ...deleted];
}
