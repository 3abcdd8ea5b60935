import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { KernelUsage } from '../backends/backend.ts';
import { CounterFile, fieldOf } from './counter-file.ts';

export type CgroupUsage = Required<Pick<KernelUsage, 'cpuMs' | 'memoryBytes' | 'readBytes' | 'writtenBytes'>>;

export interface CgroupIncidents {
  /** How often the system killed a process of the group for memory. */
  readonly outOfMemory: number;
  /** How often a new process was refused. */
  readonly processLimit: number;
}

const killsOf = (text: string): number | null => fieldOf(text, 'oom_kill');

/** What can be counted, by the files that may count it and how they say it; the first file that exists counts. */
const counters = {
  cpu: {
    'cpuacct.usage': (text: string) => Number(text) / 1_000_000,
    'cpu.stat': (text: string) => {
      const micros = fieldOf(text, 'usage_usec');
      return micros === null ? null : micros / 1_000;
    },
  },
  memory: { 'memory.current': Number, 'memory.usage_in_bytes': Number },
  // Pages of files that nobody needs now count as free: the kernel takes them away before it refuses memory.
  pages: {
    'memory.stat': (text: string) => fieldOf(text, 'total_inactive_file') ?? fieldOf(text, 'inactive_file') ?? 0,
  },
  io: {
    'io.stat': parseIoStat,
    'blkio.throttle.io_service_bytes_recursive': parseBlkio,
    'blkio.throttle.io_service_bytes': parseBlkio,
  },
  outOfMemory: { 'memory.events': killsOf, 'memory.oom_control': killsOf },
  processLimit: { 'pids.events': (text: string) => fieldOf(text, 'max') },
} as const;

/** What the groups of one kernel count, of version 1 or 2, whichever there are. */
export class CgroupMeter {
  readonly #cpu: Counter<number>;
  readonly #memory: Counter<number>;
  readonly #pages: Counter<number>;
  readonly #io: Counter<Transferred>;
  readonly #outOfMemory: Counter<number>;
  readonly #processLimit: Counter<number>;
  readonly #all: readonly Counter<unknown>[];
  #incidents: CgroupIncidents = { outOfMemory: 0, processLimit: 0 };
  #closed = false;

  constructor(folders: readonly string[]) {
    this.#cpu = new Counter(folders, counters.cpu);
    this.#memory = new Counter(folders, counters.memory);
    this.#pages = new Counter(folders, counters.pages);
    this.#io = new Counter(folders, counters.io);
    this.#outOfMemory = new Counter(folders, counters.outOfMemory);
    this.#processLimit = new Counter(folders, counters.processLimit);
    this.#all = [this.#cpu, this.#memory, this.#pages, this.#io, this.#outOfMemory, this.#processLimit];
  }

  /** Null: none of the groups counts it, or it is closed. */
  read(): CgroupUsage {
    if (this.#closed) return { cpuMs: null, memoryBytes: null, readBytes: null, writtenBytes: null };
    const held = this.#memory.read();
    const transferred = this.#io.read();
    return {
      cpuMs: this.#cpu.read(),
      memoryBytes: held === null ? null : Math.max(0, held - (this.#pages.read() ?? 0)),
      readBytes: transferred?.read ?? null,
      writtenBytes: transferred?.written ?? null,
    };
  }

  /** Since the groups were made, as they were last seen; none where nothing counts them. */
  incidents(): CgroupIncidents {
    if (this.#closed) return this.#incidents;
    const { outOfMemory, processLimit } = this.#incidents;
    this.#incidents = {
      outOfMemory: this.#outOfMemory.read() ?? outOfMemory,
      processLimit: this.#processLimit.read() ?? processLimit,
    };
    return this.#incidents;
  }

  /** Ends are judged after it, when the groups may be gone: what has happened in them until now is remembered. */
  close(): void {
    this.incidents();
    this.#closed = true;
    for (const counter of this.#all) counter.close();
  }
}

interface Found<T> {
  readonly file: CounterFile;
  readonly parse: (text: string) => T | null;
}

class Counter<T> {
  readonly #folders: readonly string[];
  readonly #files: Readonly<Record<string, (text: string) => T | null>>;
  #found: Found<T> | undefined;

  constructor(folders: readonly string[], files: Readonly<Record<string, (text: string) => T | null>>) {
    this.#folders = folders;
    this.#files = files;
  }

  read(): T | null {
    this.#found ??= this.#find();
    const text = this.#found?.file.read() ?? null;
    return text === null || !this.#found ? null : this.#found.parse(text.trimEnd());
  }

  close(): void {
    this.#found?.file.close();
    this.#found = undefined;
  }

  #find(): Found<T> | undefined {
    for (const [name, parse] of Object.entries(this.#files)) {
      for (const folder of this.#folders) {
        const path = join(folder, name);
        if (!existsSync(path)) continue;
        const file = new CounterFile(path);
        const text = file.read();
        // A file of this name may tell something else, as `cpu.stat` of version 1 does.
        if (text !== null && parse(text.trimEnd()) !== null) return { file, parse };
        file.close();
      }
    }
    return undefined;
  }
}

interface Transferred {
  readonly read: number;
  readonly written: number;
}

/** `8:0 rbytes=1 wbytes=2 rios=3 …` by device. Nothing transferred is an empty file. */
function parseIoStat(text: string): Transferred {
  return { read: sumOf(text, /\brbytes=(\d+)/g), written: sumOf(text, /\bwbytes=(\d+)/g) };
}

/** `8:0 Read 1` by device and operation, `Total 3` at the end. */
function parseBlkio(text: string): Transferred {
  return { read: sumOf(text, /^\S+ Read (\d+)$/gm), written: sumOf(text, /^\S+ Write (\d+)$/gm) };
}

function sumOf(text: string, pattern: RegExp): number {
  let sum = 0;
  for (const [, amount] of text.matchAll(pattern)) sum += Number(amount);
  return sum;
}
