import { type Dotfile, dotfileOwnerKinds } from '@backend.ai/contract';
import type { OwnedDotfile } from '../../repositories/session-transitions.ts';

/** What a session gets of all that its owners have: of files that are in each other's way that of the strongest. */
export function effectiveDotfiles(files: readonly OwnedDotfile[]): Dotfile[] {
  const kept: Dotfile[] = [];
  for (const kind of dotfileOwnerKinds.toReversed()) {
    const stronger = [...kept];
    for (const { owner, ...file } of files)
      if (owner === kind && !stronger.some((other) => isInTheWay(other.path, file.path))) kept.push(file);
  }
  return kept.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** The same path, or one of them would have to be a folder for the other. */
export function isInTheWay(one: string, other: string): boolean {
  return one === other || one.startsWith(`${other}/`) || other.startsWith(`${one}/`);
}
