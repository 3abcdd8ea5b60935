import type { UidPool } from '../../../resources/uid-pool.ts';
import type { CreateStep } from '../../backend.ts';
import { type ScratchDraft, userInside } from '../draft.ts';
import type { KeptHomes } from '../kept-homes.ts';
import { giveScratch, removeOwnFolders, writeUserTables } from '../scratch.ts';

/**
 * A user id of its own when the agent is root, and the table that calls it `work`. A home that was kept for this kernel
 * comes with its owner.
 */
export function allocateUidStep(
  draft: ScratchDraft,
  context: { readonly uids: UidPool; readonly keptHomes: KeptHomes },
): CreateStep {
  return {
    name: 'allocate-uid',
    run() {
      const { uids, keptHomes } = context;
      const { ownUid } = draft.isolation;
      const accepts = (owner: number): boolean => (ownUid ? uids.has(owner) : owner === process.getuid?.());
      const owner = keptHomes.take(draft.spec, draft.paths.home, accepts);
      if (ownUid) {
        draft.uid = owner ?? uids.allocate();
        giveScratch(draft.paths, draft.uid);
      }
      const { uid, gid } = userInside(draft);
      if (draft.isolation.sandbox !== 'none') writeUserTables(draft.paths, uid, gid);
    },
    async undo() {
      // Its user id stays taken with it.
      if (draft.keepHome) {
        await context.keptHomes.keep(draft.spec, draft.paths.home);
        draft.keepHome = false;
        draft.uid = null;
      }
      if (draft.uid === null) return;
      // The next owner of the id must not find anything that belongs to it.
      await removeOwnFolders(draft.paths);
      context.uids.release(draft.uid);
      draft.uid = null;
    },
  };
}
