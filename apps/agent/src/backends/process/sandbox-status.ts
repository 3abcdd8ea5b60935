import { readFileSync } from 'node:fs';
import type { ScratchPaths } from '../scratch/scratch.ts';

export interface SandboxStatus {
  readonly childPid: number | null;
  readonly exitCode: number | null;
}

/**
 * The sandbox appends while we read: an unfinished line counts as absent. Without a sandbox programs of an ordinary user
 * may write there as well: what it says about processes is checked, see `findInit`.
 */
export function readSandboxStatus(paths: ScratchPaths): SandboxStatus {
  let text: string;
  try {
    text = readFileSync(paths.status, 'latin1');
  } catch {
    return { childPid: null, exitCode: null };
  }
  const find = (name: string): number | null => {
    const match = new RegExp(`"${name}": *(\\d+)[^\\d]`).exec(text);
    return match ? Number(match[1]) : null;
  };
  return { childPid: find('child-pid'), exitCode: find('exit-code') };
}
