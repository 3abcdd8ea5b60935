import type { ChildProcess } from 'node:child_process';
import type { IsolationReport } from '@backend.ai/contract';
import type { Clock, ResourceSlots } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import type { CgroupHost } from '../../resources/cgroups.ts';
import type { ProcessIdentity } from '../../resources/processes.ts';
import type { UidPool } from '../../resources/uid-pool.ts';
import type { ScratchDraft } from '../scratch/draft.ts';
import { type KernelFacts, sharedFacts, writeFacts } from '../scratch/facts.ts';
import type { KeptHomes } from '../scratch/kept-homes.ts';
import type { SandboxCandidate } from './isolation.ts';
import type { SandboxLauncher } from './launcher.ts';
import type { MemoryWatch } from './memory-watch.ts';
import type { ProcessKernel } from './process-kernel.ts';
import type { RecentProcesses } from './recent-processes.ts';
import type { Runtime } from './runtimes.ts';

/** What all kernels of a backend share. */
export interface ProcessContext {
  readonly installationId: string;
  readonly candidate: SandboxCandidate;
  readonly isolation: IsolationReport;
  readonly cgroups: CgroupHost | null;
  readonly uids: UidPool;
  readonly keptHomes: KeptHomes;
  readonly launcher: SandboxLauncher;
  readonly memoryWatch: MemoryWatch;
  readonly recentProcesses: RecentProcesses;
  readonly processLimit: number;
  /** How long a runner may take to its first answer, in milliseconds. */
  readonly startDeadlineMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A kernel of processes in the making. */
export interface KernelDraft extends ScratchDraft {
  readonly slots: ResourceSlots;
  readonly runtime: Runtime | null;
  cgroups: readonly string[];
  child: ChildProcess | null;
  monitor: ProcessIdentity | null;
  kernel: ProcessKernel | null;
  /** As an earlier life of the agent knew it; the present one asks the kernel. */
  readonly init: ProcessIdentity | null;
}

export interface ProcessFacts extends KernelFacts {
  readonly cgroups: readonly string[];
  /** The process the agent started; it stays outside the sandbox. */
  readonly monitor: ProcessIdentity | null;
  /** The first process inside: with it the whole process namespace ends. */
  readonly init: ProcessIdentity | null;
}

export function saveFacts(
  draft: KernelDraft,
  { installationId }: Pick<ProcessContext, 'installationId'>,
  state: KernelFacts['state'],
): void {
  const { spec, runtime, cgroups, monitor, kernel } = draft;
  const facts: ProcessFacts = {
    ...sharedFacts(draft, installationId, state),
    image: runtime?.image.name ?? spec.image,
    cgroups,
    monitor,
    init: kernel?.processes.init ?? draft.init,
  };
  writeFacts(draft.paths, facts);
}
