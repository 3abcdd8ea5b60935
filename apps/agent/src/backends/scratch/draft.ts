import type { IsolationReport, KernelSpec } from '@backend.ai/contract';
import type { KernelResources } from '../../resources/kernel-resources.ts';
import type { KernelFacts } from './facts.ts';
import type { RunnerKernel } from './runner-kernel.ts';
import type { ScratchPaths } from './scratch.ts';

/** A kernel in the making: each step fills in its part, each undo takes it back. */
export interface ScratchDraft {
  readonly spec: KernelSpec;
  readonly requestId: string;
  readonly paths: ScratchPaths;
  readonly resources: KernelResources;
  /** Who the agent's own user is to the programs of the kernel, for a kernel without a user id of its own. */
  readonly agentInside: KernelUser;
  isolation: IsolationReport;
  uid: number | null;
  kernel: RunnerKernel | null;
  /** It ends because its session is started anew: its home waits for the next kernel. */
  keepHome: boolean;
}

/** Writes down what has to be known of a kernel; `running`: from now on an agent that is started again takes it over. */
export type SaveFacts = (state: KernelFacts['state']) => void;

export interface KernelUser {
  readonly uid: number;
  readonly gid: number;
}

/** Who `work` is to the programs of the kernel. */
export function userInside({ uid, agentInside }: Pick<ScratchDraft, 'uid' | 'agentInside'>): KernelUser {
  return uid === null ? agentInside : { uid, gid: uid };
}

export function agentUser(): KernelUser {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}
