import type { KeyGeneration, ManagerKeys } from '../../repositories/installation-keys.ts';

/**
 * What a key of an installation is there for:
 * - `next`: it has been added and encrypts nothing yet
 * - `current`: it encrypts
 * - `old`: it did, and decrypts what has not moved to the current one
 *
 * A key goes this way once. Each step waits until no manager can be harmed by it: a key encrypts only when all managers
 * have it, and goes only when all of them encrypt with another one and nothing is left under it.
 */
export type KeyState = 'next' | 'current' | 'old';

/** What is known of an installation's keys. */
export interface KeyFacts {
  /** Of those that have encrypted the last one. */
  readonly current: string;
  readonly generations: readonly KeyGeneration[];
  readonly managers: readonly ManagerKeys[];
}

export function stateOf(id: string, { current, generations }: KeyFacts): KeyState {
  if (id === current) return 'current';
  return generations.some((generation) => generation.id === id) ? 'old' : 'next';
}

/** The key to which secrets move: the newest one of a file. */
export function newestOf(ids: readonly string[], facts: KeyFacts): string {
  return ids.findLast((id) => stateOf(id, facts) === 'next') ?? facts.current;
}

/** A key that has been added at another manager, and which a file lacks. */
export function missedBy(ids: readonly string[], facts: KeyFacts): { id: string; manager: string } | undefined {
  for (const { id: manager, told } of facts.managers) {
    const id = told?.ids.find((each) => stateOf(each, facts) === 'next' && !ids.includes(each));
    if (id !== undefined) return { id, manager };
  }
  return undefined;
}

/** Managers that could not read what is encrypted by that key. */
export function lackingIt(id: string, managers: readonly ManagerKeys[]): string[] {
  return managers.filter(({ told }) => !told?.ids.includes(id)).map((manager) => manager.id);
}

/** Managers that still encrypt by another key, or might. */
export function notUsingIt(id: string, managers: readonly ManagerKeys[]): string[] {
  return managers.filter(({ told }) => told?.encrypts !== id).map((manager) => manager.id);
}
