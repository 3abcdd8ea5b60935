import { readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { hasEnded, type ProcessStat, readProcessStat } from '@backend.ai/runtime';

/** What /proc tells about processes. Everything here may be out of date when it returns. */

export type ProcessIdentity = Pick<ProcessStat, 'pid' | 'startTicks'>;

export function identify(pid: number): ProcessIdentity | null {
  const stat = readProcessStat(pid);
  return stat && { pid, startTicks: stat.startTicks };
}

/** Whether this very process lives. A zombie does not. */
export function isAlive(process: ProcessIdentity): boolean {
  const stat = readProcessStat(process.pid);
  return stat !== null && stat.startTicks === process.startTicks && !hasEnded(stat);
}

/** Whether there is a process of this number that is not dead. */
export function isRunning(pid: number): boolean {
  const stat = readProcessStat(pid);
  return stat !== null && !hasEnded(stat);
}

/** Whether a signal was sent. */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

function allPids(): number[] {
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return [];
  }
}

export interface TreeMark {
  /** Root of a tree of processes. */
  readonly root: number | null;
  /** An entry of the environment, `NAME=value`, that every process of the tree was started with. */
  readonly label: string;
  /** A user id that nobody else has. */
  readonly uid: number | null;
}

/** The living processes of the machine at one moment. */
export class ProcessTable {
  readonly #children = new Map<number, number[]>();
  readonly #living = new Set<number>();

  constructor() {
    for (const pid of allPids()) {
      if (pid === process.pid) continue;
      const stat = readProcessStat(pid);
      if (!stat || hasEnded(stat)) continue;
      this.#living.add(pid);
      const siblings = this.#children.get(stat.parent);
      if (siblings) siblings.push(pid);
      else this.#children.set(stat.parent, [pid]);
    }
  }

  /** These and all below them, as far as they live. */
  withDescendants(roots: Iterable<number>): number[] {
    const found = new Set(roots);
    // A set is walked in the order of insertion, also what is inserted meanwhile.
    for (const pid of found) for (const child of this.#children.get(pid) ?? []) found.add(child);
    return [...found].filter((pid) => this.#living.has(pid));
  }

  /** Descendants of the root, bearers of the label or of the user id, and their descendants. */
  findTree(mark: TreeMark): number[] {
    const label = Buffer.from(mark.label);
    const roots = new Set<number>(mark.root === null ? [] : [mark.root]);
    for (const pid of this.#living) {
      if ((mark.uid !== null && ownerOf(pid) === mark.uid) || bears(pid, label)) roots.add(pid);
    }
    return this.withDescendants(roots);
  }
}

/** Values of an environment variable among all processes we may look into. */
export function findLabels(name: string): Map<string, number[]> {
  const values = new Map<string, number[]>();
  for (const pid of allPids()) {
    const entry = readEnvironment(pid)
      ?.toString()
      .split('\0')
      .find((each) => each.startsWith(`${name}=`));
    const state = entry === undefined ? undefined : readProcessStat(pid)?.state;
    if (entry === undefined || state === undefined || state === 'Z') continue;
    const value = entry.slice(name.length + 1);
    values.set(value, [...(values.get(value) ?? []), pid]);
  }
  return values;
}

function bears(pid: number, label: Buffer): boolean {
  const environment = readEnvironment(pid);
  if (!environment || label.length === 0) return false;
  const at = environment.indexOf(label);
  return at >= 0 && (at === 0 || environment[at - 1] === 0) && (environment[at + label.length] ?? 0) === 0;
}

function readEnvironment(pid: number): Buffer | null {
  try {
    return readFileSync(`/proc/${pid}/environ`);
  } catch {
    return null;
  }
}

function ownerOf(pid: number): number | null {
  try {
    const match = /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
    return match ? Number(match[1]) : null;
  } catch {
    return null;
  }
}

export function readCommandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** Whether a process has said that a signal shall do nothing. */
export function ignores(pid: number, signal: NodeJS.Signals): boolean {
  try {
    const mask = /^SigIgn:\s+([0-9a-f]+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '0';
    return ((BigInt(`0x${mask}`) >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n;
  } catch {
    return false;
  }
}

/**
 * Memory held by the processes, in bytes: their own and what they share among each other, without what can be read again
 * from files. Pages that several of them map are counted for each: never too little, and quick.
 */
export function residentBytes(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + heldBytes(pid), 0);
}

/**
 * The same with shared pages divided among those who map them: exact and slow. A process that may not be looked into
 * counts with all it maps, so that hiding does not make it smaller.
 */
export function proportionalBytes(pids: readonly number[]): number {
  return pids.reduce(
    (sum, pid) => sum + (kibibytesOf(`/proc/${pid}/smaps_rollup`, /^Pss_(?:Anon|Shmem)/) ?? heldBytes(pid)),
    0,
  );
}

/** CPU time of the processes and of their ended children, in milliseconds. */
export function cpuMsOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + (readProcessStat(pid)?.cpuMs ?? 0), 0);
}

function heldBytes(pid: number): number {
  const status = `/proc/${pid}/status`;
  // Kernels before 4.5 do not tell them apart.
  return kibibytesOf(status, /^Rss(?:Anon|Shmem)/) ?? kibibytesOf(status, /^VmRSS/) ?? 0;
}

/** Sum of the lines `NAME: N kB`, in bytes; null when there are none, or the process is gone. */
function kibibytesOf(file: string, name: RegExp): number | null {
  let text: string;
  try {
    text = readFileSync(file, 'latin1');
  } catch {
    return null;
  }
  const amounts = text
    .split('\n')
    .filter((line) => name.test(line))
    .map((line) => Number(/:\s+(\d+) kB$/.exec(line)?.[1]));
  return amounts.length === 0 ? null : amounts.reduce((sum, each) => sum + each, 0) * 1024;
}
