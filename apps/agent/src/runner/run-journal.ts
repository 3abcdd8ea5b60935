import { closeSync, fstatSync, readSync } from 'node:fs';
import { AppError, type Clock, systemClock } from '@backend.ai/core';
import type { RunDirectory } from './run-directory.ts';
import { lineLimitBytes, parseRecord, type RunEvent, type RunRecord } from './runner-messages.ts';

export type JournalRecord = RunRecord & {
  /** The cursor behind this record. */
  readonly end: number;
};

export interface JournalPage {
  readonly records: readonly JournalRecord[];
  /** Where to read next. */
  readonly cursor: number;
  /** The last record of the run is among them. */
  readonly done: boolean;
}

/** Who tells that a journal grew: the client, as long as it is connected. */
export interface RunEvents {
  onRunEvent(listener: (event: RunEvent) => void): () => void;
  /** By what a run asks, or has ended, that could not be written into its journal. */
  untold(runId: string): RunRecord | undefined;
}

export interface WaitOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Events may be missing while the socket is away; then the size of the file tells. */
const lookAgainMs = 100;

/**
 * The output of one execution: lines that the runner appends and the agent reads from any cursor, as often as it likes.
 * Reads are synchronous and bounded: the file is local and was just written.
 */
export class RunJournal {
  readonly runId: string;
  readonly #directory: RunDirectory;
  readonly #events: RunEvents;
  readonly #clock: Clock;
  #keeps = false;
  #kept: number | undefined;

  constructor(directory: RunDirectory, runId: string, events: RunEvents, clock: Clock = systemClock) {
    this.runId = runId;
    this.#directory = directory;
    this.#events = events;
    this.#clock = clock;
  }

  /** Looks at it through one descriptor meanwhile: each way to the file costs several calls of the system. */
  async keepOpen<T>(work: () => Promise<T>): Promise<T> {
    this.#keeps = true;
    try {
      return await work();
    } finally {
      this.#keeps = false;
      if (this.#kept !== undefined) closeSync(this.#kept);
      this.#kept = undefined;
    }
  }

  /**
   * Complete records from `cursor` on, about `maxBytes` of them, at least one if there is one.
   * @throws AppError `run-not-found`, `invalid-input` for a cursor between records, `kernel-lost` for a damaged journal
   */
  read(cursor: number, maxBytes: number): JournalPage {
    const page = this.#look((fd) => this.#read(fd, cursor, maxBytes));
    if (!page) throw new AppError('run-not-found', 'The kernel keeps no output of this execution.');
    return page;
  }

  #read(fd: number, cursor: number, maxBytes: number): JournalPage {
    const size = fstatSync(fd).size;
    if (!Number.isSafeInteger(cursor) || cursor < 0 || cursor > size) throw this.#badCursor();
    // One byte more in front shows whether the cursor stands behind a line.
    const lead = cursor > 0 ? 1 : 0;
    let chunk = readAt(fd, cursor - lead, Math.min(size - cursor, Math.max(maxBytes, 1)) + lead);
    if (lead && chunk[0] !== newline) throw this.#badCursor();
    let last = chunk.lastIndexOf(newline);
    if (last < lead && size - cursor > chunk.length - lead) {
      chunk = readAt(fd, cursor - lead, Math.min(size - cursor, lineLimitBytes) + lead);
      last = chunk.indexOf(newline, lead);
    }
    if (last < lead) {
      if (chunk.length - lead >= lineLimitBytes) throw this.#damaged();
      return { records: [], cursor, done: false };
    }
    return this.#parse(chunk.subarray(lead, last + 1), cursor);
  }

  /** Whether the runner has taken such a run and keeps its output. */
  exists(): boolean {
    return this.#look(() => true) ?? false;
  }

  /** By what the run asks, or has ended, as long as the disk is too full to write it behind the other records. */
  get untold(): RunRecord | undefined {
    return this.#events.untold(this.runId);
  }

  /** Bytes; none when the journal does not exist. */
  size(): number {
    return this.#look((fd) => fstatSync(fd).size) ?? 0;
  }

  /**
   * Resolves true as soon as the journal is longer than `cursor`, or something untold comes, false when the time is over or
   * the signal aborts.
   */
  waitBeyond(cursor: number, options: WaitOptions): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const deadline = this.#clock.monotonic() + options.timeoutMs;
      let cancel = (): void => {};
      const stop = (): void => {
        cancel();
        forget();
        options.signal?.removeEventListener('abort', aborted);
      };
      const settle = (grown: boolean): void => {
        stop();
        resolve(grown);
      };
      const aborted = (): void => settle(false);
      const look = (): void => {
        cancel();
        const left = deadline - this.#clock.monotonic();
        try {
          if (this.size() > cursor) settle(true);
          else if (left <= 0) settle(false);
          else cancel = this.#clock.setTimer(Math.min(left, lookAgainMs), look);
        } catch (error) {
          stop();
          reject(error);
        }
      };
      const forget = this.#events.onRunEvent((event) => {
        if (event.runId !== this.runId) return;
        if (event.last) settle(true);
        else if (event.end > cursor) look();
      });
      options.signal?.addEventListener('abort', aborted, { once: true });
      if (options.signal?.aborted) settle(false);
      else look();
    });
  }

  #parse(chunk: Buffer, start: number): JournalPage {
    const records: JournalRecord[] = [];
    let at = 0;
    while (at < chunk.length) {
      const end = chunk.indexOf(newline, at);
      const record = parseRecord(chunk.toString('utf8', at, end));
      if (!record) throw this.#damaged();
      at = end + 1;
      records.push({ ...record, end: start + at });
      if (record.t === 'finished') return { records, cursor: start + at, done: true };
    }
    return { records, cursor: start + at, done: false };
  }

  /** Undefined when there is no journal. */
  #look<T>(look: (fd: number) => T): T | undefined {
    this.#directory.requireOpen();
    const fd = this.#kept ?? this.#directory.openJournal(this.runId);
    if (fd === undefined) return undefined;
    if (this.#keeps) this.#kept = fd;
    try {
      return look(fd);
    } finally {
      if (this.#kept === undefined) closeSync(fd);
    }
  }

  #badCursor(): AppError {
    return new AppError('invalid-input', 'The cursor does not point to the end of a record.');
  }

  #damaged(): AppError {
    return new AppError('kernel-lost', 'The output of the execution is damaged.', { detail: { runId: this.runId } });
  }
}

const newline = 10;

/** May return less than asked for when the file shrinks. */
function readAt(fd: number, position: number, length: number): Buffer {
  const buffer = Buffer.allocUnsafe(length);
  let filled = 0;
  while (filled < length) {
    const count = readSync(fd, buffer, filled, length - filled, position + filled);
    if (count === 0) break;
    filled += count;
  }
  return buffer.subarray(0, filled);
}
