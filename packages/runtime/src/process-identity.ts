import { readFile } from 'node:fs/promises';

/** A process, told from a later one with the same id. */
export interface ProcessIdentity {
  readonly pid: number;
  /** In clock ticks since boot; null where there is no procfs. */
  readonly startedAt: string | null;
}

export async function identifyProcess(pid: number): Promise<ProcessIdentity> {
  const [, startedAt] = await readState(pid);
  return { pid, startedAt };
}

/** False as well for one that has ended and waits for its parent to ask (a zombie), and for a later one of the same id. */
export async function isProcessAlive(identity: ProcessIdentity): Promise<boolean> {
  try {
    process.kill(identity.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const [state, startedAt] = await readState(identity.pid);
  if (state === 'Z' || state === 'X') return false;
  return startedAt === null || identity.startedAt === null || startedAt === identity.startedAt;
}

/** Fields 3 and 22 of /proc/PID/stat; nulls where there is no procfs or no such process. */
async function readState(pid: number): Promise<[state: string | null, startedAt: string | null]> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The second field is a name in parentheses that may itself contain spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return [fields[0] ?? null, fields[19] ?? null];
  } catch {
    return [null, null];
  }
}
