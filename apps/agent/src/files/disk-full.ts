import { statfsSync } from 'node:fs';

/** Room that is left to what runs, and to the agent: no kernel is started that finds less. */
const reserveBytes = 16 * 1024 * 1024;

/** Whether the disk of a folder has no room for another kernel. False where nobody can tell. */
export function isNearlyFull(folder: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize < reserveBytes;
  } catch {
    return false;
  }
}

/** Whether something failed because there is no room on a disk, or no more of it for this user. */
export function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  // What fails for its own reasons may have been caused by this: the chain tells.
  const { code, cause } = error as NodeJS.ErrnoException;
  return code === 'ENOSPC' || code === 'EDQUOT' || isDiskFull(cause);
}

/** Does what a full disk may leave undone. */
export function unlessDiskFull(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!isDiskFull(error)) throw error;
  }
}
