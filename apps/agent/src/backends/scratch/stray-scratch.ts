import type { UidPool } from '../../resources/uid-pool.ts';
import type { Stray } from '../backend.ts';
import { listScratch, ownerOfScratch, removeScratch, scratchPaths } from './scratch.ts';

/** Folders of kernels that nobody knows. With them their user ids are free. */
export function strayScratch(scratchDir: string, isKnown: (kernelId: string) => boolean, uids: UidPool): Stray[] {
  const strays = listScratch(scratchDir).filter((kernelId) => !isKnown(kernelId));
  return strays.map((kernelId) => ({
    name: `folder ${kernelId}`,
    kernelId,
    since: null,
    async remove() {
      const paths = scratchPaths(scratchDir, kernelId);
      const uid = ownerOfScratch(paths);
      await removeScratch(paths);
      if (uid !== null) uids.release(uid);
    },
  }));
}
