import type { CreateStep } from '../../backend.ts';
import { type KernelDraft, type ProcessContext, userInside } from '../draft.ts';
import { giveScratch, removeOwnFolders, writeUserTables } from '../scratch.ts';

/** A user id of its own when the agent is root, and the table that calls it `work`. */
export function allocateUidStep(draft: KernelDraft, context: ProcessContext): CreateStep {
  return {
    name: 'allocate-uid',
    run() {
      if (draft.isolation.ownUid) {
        draft.uid = context.uids.allocate();
        giveScratch(draft.paths, draft.uid);
      }
      const { uid, gid } = userInside(draft);
      if (draft.isolation.sandbox !== 'none') writeUserTables(draft.paths, uid, gid);
    },
    async undo() {
      if (draft.uid === null) return;
      // The next owner of the id must not find anything that belongs to it.
      await removeOwnFolders(draft.paths);
      context.uids.release(draft.uid);
      draft.uid = null;
    },
  };
}
