import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { parseResourceSlots, type ResourceSlots } from '@backend.ai/core';
import type { CgroupLimits } from './cgroups.ts';

const mebibyte = 1024 * 1024;

export interface MachineFacts {
  readonly cpus: number;
  readonly memoryBytes: number;
}

/** What processors and memory this process may use: affinity and the limits of its own cgroup count. */
export function readMachineFacts(limits: CgroupLimits): MachineFacts {
  const usable = Math.min(availableParallelism(), cpus().length || 1);
  return {
    cpus: Math.max(1, Math.floor(Math.min(usable, limits.cpus ?? Number.POSITIVE_INFINITY))),
    memoryBytes: Math.min(readMemTotal(), limits.memoryBytes ?? Number.POSITIVE_INFINITY),
  };
}

/** The reserve is for the agent and the system: a sixteenth, between 128 MiB and 2 GiB. */
export function machineSlots(facts: MachineFacts): ResourceSlots {
  const reserve = Math.min(2048 * mebibyte, Math.max(128 * mebibyte, facts.memoryBytes / 16));
  const memory = Math.max(64 * mebibyte, Math.floor((facts.memoryBytes - reserve) / mebibyte) * mebibyte);
  return parseResourceSlots({ cpu: facts.cpus, mem: memory });
}

function readMemTotal(): number {
  try {
    const match = /^MemTotal:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'));
    if (match) return Number(match[1]) * 1024;
  } catch {
    // Not Linux, or /proc is hidden.
  }
  return totalmem();
}
