import { hasEnded, readProcessStat } from './process-stat.ts';

/** A process, told from a later one with the same id. */
export interface ProcessIdentity {
  readonly pid: number;
  /** In clock ticks since boot; null where there is no procfs. */
  readonly startedAt: string | null;
}

export function identifyProcess(pid: number): ProcessIdentity {
  const stat = readProcessStat(pid);
  return { pid, startedAt: stat && String(stat.startTicks) };
}

/** False as well for one that has ended and waits for its parent to ask (a zombie), and for a later one of the same id. */
export function isProcessAlive(identity: ProcessIdentity): boolean {
  try {
    process.kill(identity.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const stat = readProcessStat(identity.pid);
  if (!stat) return true;
  if (hasEnded(stat)) return false;
  return identity.startedAt === null || String(stat.startTicks) === identity.startedAt;
}
