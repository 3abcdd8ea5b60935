import type { ChildProcess } from 'node:child_process';
import type { IsolationReport, KernelSpec } from '@backend.ai/contract';
import type { Clock, ResourceSlots } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import type { CgroupHost } from '../../resources/cgroups.ts';
import type { UidPool } from '../../resources/uid-pool.ts';
import type { SandboxCandidate } from './isolation.ts';
import type { KeptHomes } from './kept-homes.ts';
import type { SandboxLauncher } from './launcher.ts';
import type { MemoryWatch } from './memory-watch.ts';
import { machineBootId, type ProcessIdentity } from './proc.ts';
import type { ProcessKernel } from './process-kernel.ts';
import type { RecentProcesses } from './recent-processes.ts';
import type { Runtime } from './runtimes.ts';
import { type KernelFacts, type ScratchPaths, writeFacts } from './scratch.ts';

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

export interface KernelUser {
  readonly uid: number;
  readonly gid: number;
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
  /** It ends because its session is started anew: its home waits for the next kernel. */
  keepHome: boolean;
}

/** Who `work` is to the programs of the kernel. */
export function userInside({ uid, isolation }: Pick<KernelDraft, 'uid' | 'isolation'>): KernelUser {
  if (uid !== null) return { uid, gid: uid };
  // In a user namespace made by `unshare` the agent's user appears as 0; bubblewrap leaves it as it is.
  if (isolation.sandbox === 'unshare') return { uid: 0, gid: 0 };
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}

/** From now on an agent that is started again takes the kernel over. */
export function markRunning(draft: KernelDraft, context: ProcessContext): void {
  writeFacts(draft.paths, factsOf(draft, context, machineBootId(), 'running'));
}

export function factsOf(
  draft: KernelDraft,
  context: Pick<ProcessContext, 'installationId'>,
  bootId: string,
  state: KernelFacts['state'],
): KernelFacts {
  const { spec, requestId, isolation, uid, cgroups, monitor, init, runtime } = draft;
  const image = runtime?.image.name ?? spec.image;
  const { installationId } = context;
  return {
    version: 1,
    installationId,
    machineBootId: bootId,
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
