import type { ChildProcess } from 'node:child_process';
import type { IsolationReport, KernelSpec } from '@backend.ai/contract';
import type { Clock, ResourceSlots } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import type { CgroupHost } from '../../resources/cgroups.ts';
import type { UidPool } from '../../resources/uid-pool.ts';
import type { SandboxCandidate } from './isolation.ts';
import type { SandboxLauncher } from './launcher.ts';
import type { MemoryWatch } from './memory-watch.ts';
import type { ProcessIdentity } from './proc.ts';
import type { ProcessKernel } from './process-kernel.ts';
import type { RecentProcesses } from './recent-processes.ts';
import type { Runtime } from './runtimes.ts';
import type { KernelFacts, ScratchPaths } from './scratch.ts';

/** What all kernels of a backend share. */
export interface ProcessContext {
  readonly installationId: string;
  readonly candidate: SandboxCandidate;
  readonly isolation: IsolationReport;
  readonly cgroups: CgroupHost | null;
  readonly uids: UidPool;
  readonly launcher: SandboxLauncher;
  readonly memoryWatch: MemoryWatch;
  readonly recentProcesses: RecentProcesses;
  readonly processLimit: number;
  /** How long a runner may take to its first answer, in milliseconds. */
  readonly startDeadlineMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A kernel in the making: each step fills in its part, each undo takes it back. */
export interface KernelDraft {
  readonly spec: KernelSpec;
  readonly requestId: string;
  readonly slots: ResourceSlots;
  readonly runtime: Runtime | null;
  readonly paths: ScratchPaths;
  isolation: IsolationReport;
  uid: number | null;
  cgroups: readonly string[];
  child: ChildProcess | null;
  monitor: ProcessIdentity | null;
  init: ProcessIdentity | null;
  kernel: ProcessKernel | null;
}

export function factsOf(
  draft: KernelDraft,
  context: Pick<ProcessContext, 'installationId'>,
  machineBootId: string,
  state: KernelFacts['state'],
): KernelFacts {
  const { spec, requestId, isolation, uid, cgroups, monitor, init, runtime } = draft;
  const image = runtime?.image.name ?? spec.image;
  const { installationId } = context;
  return {
    version: 1,
    installationId,
    machineBootId,
    spec,
    requestId,
    image,
    isolation,
    state,
    uid,
    cgroups,
    monitor,
    init,
  };
}
