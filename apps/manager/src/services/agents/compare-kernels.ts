import type { BatchEnd, Heartbeat } from '@backend.ai/contract';
import { type KernelStatus, startingStatuses } from '@backend.ai/core';
import type { BelievedKernel } from '../../repositories/agents.ts';

const starting: readonly KernelStatus[] = startingStatuses;

type Report = Heartbeat['kernels'][number];

export interface KernelDifferences {
  /** At the agent but not ours any more: the agent ends them. */
  readonly unknown: string[];
  /** We believe they run; the agent does not have them. */
  readonly lost: BelievedKernel[];
  /** They run at the agent, and we have not heard of it. */
  readonly running: Array<{ readonly kernel: BelievedKernel; readonly report: Report }>;
  /** They run, their batch jobs have ended, and we have not heard of it. */
  readonly finished: Array<{ readonly kernel: BelievedKernel; readonly report: Report; readonly batch: BatchEnd }>;
  /** They run, and their batch jobs wait for the order to begin. */
  readonly waiting: string[];
  /** They run, and stand still against the wish of who has them, or go on against it. */
  readonly disobedient: BelievedKernel[];
  /** They ended, and we have not heard of it. */
  readonly ended: Array<{ readonly kernel: BelievedKernel; readonly report: Report | undefined }>;
}

/**
 * What an agent has against what we believe it has. Differences that events on their way explain are none: only a
 * heartbeat taken exactly at the last event we know may contradict us. One taken before knows less than we do, one
 * taken after knows of events still to come.
 *
 * A kernel being prepared may be absent because the order to start it is on its way; its start has a deadline.
 */
export function compareKernels(
  heartbeat: Heartbeat,
  believed: readonly BelievedKernel[],
  ackedSeq: number,
): KernelDifferences {
  const byId = new Map(believed.map((kernel) => [kernel.kernelId, kernel]));
  const reports = new Map(heartbeat.kernels.map((report) => [report.kernelId, report]));
  const unknown = heartbeat.kernels.filter((report) => !byId.has(report.kernelId)).map((report) => report.kernelId);
  const differences: KernelDifferences = {
    ...{ unknown, lost: [], running: [], finished: [], waiting: [] },
    ...{ disobedient: [], ended: [] },
  };
  if (heartbeat.lastEventSeq !== ackedSeq) return differences;

  for (const kernel of believed) {
    const report = reports.get(kernel.kernelId);
    const gone = report === undefined || report.state === 'terminated';
    if (kernel.status === 'TERMINATING' && gone) differences.ended.push({ kernel, report });
    else if (report?.state === 'terminated') differences.ended.push({ kernel, report });
    else if (gone && (kernel.status === 'RUNNING' || kernel.status === 'CREATING')) differences.lost.push(kernel);
    else if (report?.state === 'running' && starting.includes(kernel.status)) {
      differences.running.push({ kernel, report });
    } else if (report && kernel.status === 'RUNNING') {
      if (report.batch) differences.finished.push({ kernel, report, batch: report.batch });
      else if (report.batchWaits) differences.waiting.push(kernel.kernelId);
      if (report.state === 'running' && (report.paused ?? false) !== kernel.paused)
        differences.disobedient.push(kernel);
    }
  }
  return differences;
}
