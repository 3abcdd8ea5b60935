import { readFileSync } from 'node:fs';

/** What /proc/PID/stat tells of a process. It may be out of date when it is returned. */
export interface ProcessStat {
  readonly pid: number;
  /** `R`, `S`, `Z` …, as ps shows it. */
  readonly state: string;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
  /** CPU time of the process and of its ended children, in milliseconds. */
  readonly cpuMs: number;
  /** In ticks since the machine started: tells a process from a later one with the same number. */
  readonly startTicks: number;
}

/** `USER_HZ`: the same on every architecture that programs see. */
const msPerTick = 10;

/** Null where there is no procfs, or no such process. */
export function readProcessStat(pid: number): ProcessStat | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return null;
  }
  // The name may contain anything, brackets and spaces too: fields begin after the last bracket.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return {
    pid,
    state: fields[0] ?? '?',
    parent: Number(fields[1]),
    group: Number(fields[2]),
    session: Number(fields[3]),
    cpuMs: msPerTick * fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0),
    startTicks: Number(fields[19]),
  };
}

/** Whether it has ended, and waits for its parent to ask (a zombie) at most. */
export function hasEnded({ state }: Pick<ProcessStat, 'state'>): boolean {
  return state === 'Z' || state === 'X';
}
