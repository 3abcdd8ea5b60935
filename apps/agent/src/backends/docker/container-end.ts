import { killedExitCode } from '../scratch/runner-kernel.ts';
import type { ContainerInfo } from './engine.ts';

export interface ContainerEnd {
  readonly exitCode: number | null;
  readonly outOfMemory: boolean;
}

/**
 * How a container has ended. The engine remembers every kill for memory, also of programs that the kernel has survived:
 * it explains the end of a container only when that was killed.
 * @param info Null: it is gone, and nobody knows
 */
export function containerEnd(info: Pick<ContainerInfo, 'State'> | null): ContainerEnd {
  if (!info) return { exitCode: null, outOfMemory: false };
  const { ExitCode, OOMKilled } = info.State;
  return { exitCode: ExitCode, outOfMemory: OOMKilled && ExitCode === killedExitCode };
}
