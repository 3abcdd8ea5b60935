import type { CgroupMeter } from '../../resources/cgroup-meter.ts';
import { processesIn } from '../../resources/cgroups.ts';
import { cpuMsOf, isAlive, isRunning, type ProcessTable, residentBytes } from '../../resources/processes.ts';
import type { KernelUsage } from '../backend.ts';
import type { KernelProcesses } from './end-processes.ts';

/**
 * What a kernel uses: what its control groups count, and what /proc tells of its processes where they count nothing.
 * @param mayLeaveTree Whether programs of the kernel can be found by their marks only
 */
export async function measureKernel(
  meter: CgroupMeter,
  processes: KernelProcesses,
  table: () => ProcessTable,
  mayLeaveTree: boolean,
): Promise<KernelUsage> {
  const counted = meter.read();
  if (counted.cpuMs !== null && counted.memoryBytes !== null) return counted;
  const pids = pidsToMeasure(processes, table, mayLeaveTree);
  return {
    ...counted,
    cpuMs: counted.cpuMs ?? cpuMsOf(pids),
    memoryBytes: counted.memoryBytes ?? residentBytes(pids),
  };
}

/** Its living processes, as far as they are looked for to be measured: at a moment that may be a second ago. */
export function pidsToMeasure(processes: KernelProcesses, table: () => ProcessTable, mayLeaveTree: boolean): number[] {
  const { cgroups, monitor, label, uid } = processes;
  if (cgroups.length > 0) return processesIn(cgroups).filter(isRunning);
  const root = monitor && isAlive(monitor) ? monitor.pid : null;
  return mayLeaveTree ? table().findTree({ root, label, uid }) : table().withDescendants(root === null ? [] : [root]);
}
