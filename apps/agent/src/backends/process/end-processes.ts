import { AppError, type Clock, delay } from '@backend.ai/core';
import { canFreeze, freezeCgroups, processesIn } from '../../resources/cgroups.ts';
import { isAlive, isRunning, type ProcessIdentity, ProcessTable, signalProcess } from '../../resources/processes.ts';

export interface KernelProcesses {
  readonly monitor: ProcessIdentity | null;
  readonly init: ProcessIdentity | null;
  readonly cgroups: readonly string[];
  readonly label: string;
  readonly uid: number | null;
}

/** All living processes of a kernel. Control groups know them exactly; otherwise /proc is searched. */
export function kernelProcesses(processes: KernelProcesses): number[] {
  // Dead ones whose parent has not looked yet may still be listed.
  if (processes.cgroups.length > 0) return processesIn(processes.cgroups).filter(isRunning);
  const { monitor, label, uid } = processes;
  return new ProcessTable().findTree({ root: monitor && isAlive(monitor) ? monitor.pid : null, label, uid });
}

/**
 * Kills until none is left. The first process of a namespace takes all the others with it; where there is none, those
 * found are stopped first, so that a program that forks faster than we look cannot win.
 * @throws AppError `internal` when some cannot be killed
 */
export async function endProcesses(processes: KernelProcesses, clock: Clock, deadlineMs = 15_000): Promise<void> {
  const until = clock.monotonic() + deadlineMs;
  const { init, monitor, cgroups } = processes;
  // What stands still does not even die.
  if (canFreeze(cgroups)) freezeCgroups(cgroups, false);
  if (init && isAlive(init)) signalProcess(init.pid, 'SIGKILL');
  for (let round = 0; ; round++) {
    const pids = kernelProcesses(processes);
    if (monitor && isAlive(monitor) && !pids.includes(monitor.pid)) pids.push(monitor.pid);
    if (pids.length === 0) return;
    if (clock.monotonic() > until) {
      throw new AppError('internal', 'Some processes of a kernel cannot be ended.', { detail: { pids } });
    }
    // The namespace needs a moment to come down by itself; a second look usually finds nothing.
    if (round > 0 || !init) {
      for (const pid of pids) signalProcess(pid, 'SIGSTOP');
      for (const pid of pids) signalProcess(pid, 'SIGKILL');
    }
    await delay(clock, Math.min(50, 1 + round));
  }
}
