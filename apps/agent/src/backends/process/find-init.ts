import type { IsolationReport } from '@backend.ai/contract';
import { readProcessStat } from '@backend.ai/runtime';
import type { ProcessIdentity } from '../../resources/processes.ts';
import type { ScratchPaths } from '../scratch/scratch.ts';
import { readSandboxStatus } from './sandbox-status.ts';

/**
 * The first process inside, as the sandbox has reported it. Its number comes from a file: it counts only for a process
 * that stands where the sandbox puts it, right below the monitor, so that no other process can be passed off as it.
 */
export function findInit(
  paths: ScratchPaths,
  sandbox: IsolationReport['sandbox'],
  monitor: ProcessIdentity | null,
): ProcessIdentity | null {
  if (sandbox === 'none' || !monitor || readProcessStat(monitor.pid)?.startTicks !== monitor.startTicks) return null;
  const { childPid } = readSandboxStatus(paths);
  const stat = childPid === null ? null : readProcessStat(childPid);
  if (!stat) return null;
  // unshare(1) stays in between.
  const outside = sandbox === 'unshare' ? readProcessStat(stat.parent)?.parent : stat.parent;
  return outside === monitor.pid ? { pid: stat.pid, startTicks: stat.startTicks } : null;
}
