import { existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { KernelSpec } from '@backend.ai/contract';
import { removeTree } from '../../files/remove-tree.ts';

/** How long a home waits for the next kernel of its session, in milliseconds. */
const keptForMs = 3_600_000;

type Place = Pick<KernelSpec, 'sessionId' | 'clusterRole' | 'clusterIndex'>;

/**
 * Home folders of kernels that ended because their session is started anew: the next kernel at the same place in the
 * same session gets the folder, and with it the user id that owns what is in it. Nothing is copied and no owner changes.
 * They outlive the agent.
 */
export class KeptHomes {
  readonly #folder: string;

  /** @param folder On the same file system as the homes; nobody but the agent gets in. */
  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /** Moves a home here; one that was left by an earlier kernel at this place is removed. */
  async keep(place: Place, home: string): Promise<void> {
    if (!existsSync(home)) return;
    await removeTree(this.#pathOf(place));
    renameSync(home, this.#pathOf(place));
  }

  /** Whether a home waits for this place. */
  has(place: Place): boolean {
    return existsSync(this.#pathOf(place));
  }

  /** Moves the home that waits for this place, if there is one, over the empty folder `home`. Answers its owner. */
  take(place: Place, home: string, accepts: (owner: number) => boolean): number | null {
    const path = this.#pathOf(place);
    const owner = lstatSync(path, { throwIfNoEntry: false })?.uid;
    if (owner === undefined || !accepts(owner)) return null;
    rmdirSync(home);
    renameSync(path, home);
    return owner;
  }

  /** User ids that must not be given to others. */
  owners(): number[] {
    return this.#names().flatMap((name) => lstatSync(join(this.#folder, name), { throwIfNoEntry: false })?.uid ?? []);
  }

  /** Removes homes that nobody came for. Answers their owners, of which nothing is left. */
  async expire(now: number): Promise<number[]> {
    const owners: number[] = [];
    for (const name of this.#names()) {
      const path = join(this.#folder, name);
      const stat = lstatSync(path, { throwIfNoEntry: false });
      // Moving it here was the last change of the folder itself.
      if (!stat || stat.ctimeMs + keptForMs > now) continue;
      await removeTree(path);
      owners.push(stat.uid);
    }
    return owners;
  }

  #names(): string[] {
    return readdirSync(this.#folder);
  }

  #pathOf({ sessionId, clusterRole, clusterIndex }: Place): string {
    return join(this.#folder, `${sessionId}-${clusterRole}${clusterIndex}`);
  }
}
