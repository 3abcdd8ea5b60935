import { type Clock, delay, systemClock } from '@backend.ai/core';
import type { JournalRecord, RunJournal } from './run-journal.ts';
import type { RunEnd, RunRecord, TextKind } from './runner-messages.ts';

export type CollectStatus =
  | 'continued'
  | 'waiting-input'
  | 'clean-finished'
  | 'build-finished'
  | 'finished'
  | 'exec-timeout';

export type ConsoleItem = readonly [TextKind, string] | readonly ['media', readonly [mime: string, data: string]];

/** One answer of "execute" or "continue". */
export interface RunResult {
  readonly runId: string;
  readonly status: CollectStatus;
  /** Null until a step has ended. */
  readonly exitCode: number | null;
  readonly options: { readonly is_password: boolean } | null;
  readonly console: readonly ConsoleItem[];
  /** Where the next call continues. */
  readonly cursor: number;
  /** Some output was dropped because the run printed more than is kept. */
  readonly truncated: boolean;
  /** What its last record says, when this is its end and there is one. */
  readonly end: RunEnd | undefined;
}

/** How a kernel ended. */
export interface KernelExit {
  readonly exitCode: number | null;
}

export interface CollectOptions {
  /** How long more output is awaited after the first. */
  readonly flushMs: number;
  /** How long the first output is awaited; 2 s by default. */
  readonly holdMs?: number | undefined;
  /** Journal bytes in one result; 1 MiB by default. A single larger record still fits. */
  readonly maxBytes?: number | undefined;
  /** The kernel is gone: what is in the journal is all there will be. */
  readonly ended?: Promise<KernelExit> | undefined;
  /** The run has used up its time. */
  readonly expired?: AbortSignal | undefined;
  /** The caller no longer wants the result; it gets what there is. */
  readonly signal?: AbortSignal | undefined;
  readonly clock?: Clock | undefined;
}

/**
 * Reads on from `cursor` until a control record, or until there is something worth showing. Stateless: the same cursor
 * gives the same beginning again.
 * @throws AppError `run-not-found`, `invalid-input`, `kernel-lost`
 */
export function collectRun(journal: RunJournal, cursor: number, options: CollectOptions): Promise<RunResult> {
  return journal.keepOpen(() => collect(journal, cursor, options));
}

async function collect(journal: RunJournal, cursor: number, options: CollectOptions): Promise<RunResult> {
  const clock = options.clock ?? systemClock;
  const maxBytes = options.maxBytes ?? 1 << 20;
  const output = new Output(journal.runId, cursor);
  let deadline = clock.monotonic() + (options.holdMs ?? 2000);
  let flushing = false;
  let exit: KernelExit | undefined;
  const woken = new AbortController();
  const wake = (): void => woken.abort();
  options.signal?.addEventListener('abort', wake);
  options.expired?.addEventListener('abort', wake);
  if (options.signal?.aborted || options.expired?.aborted) wake();
  void options.ended?.then(
    (value) => {
      exit = value;
      wake();
    },
    () => {
      exit = { exitCode: null };
      wake();
    },
  );
  // Lets an end that is already known be seen before the first wait.
  await undefined;
  try {
    for (;;) {
      // Whether the kernel had ended before this read: then nothing can follow it.
      const final = exit;
      const size = final ? lengthOfDead(journal) : journal.size();
      if (size > output.cursor || !final) {
        const page = journal.read(output.cursor, maxBytes - output.bytes(cursor));
        const control = output.take(page.records, size);
        if (control) return output.control(control);
        if (output.bytes(cursor) >= maxBytes) return output.result('continued', null);
        if (page.records.length > 0) {
          if (!flushing) deadline = clock.monotonic() + options.flushMs;
          flushing = true;
          continue;
        }
        // Half a line: its rest follows at once, or never.
        if (size > output.cursor && !final) await delay(clock, halfLineMs, woken.signal);
      }
      const { untold } = journal;
      if (untold?.t === 'finished' || (untold && !final)) return output.control(untold);
      if (final) return output.result('finished', final.exitCode ?? 137);
      if (options.expired?.aborted) return output.result('exec-timeout', null);
      const timeoutMs = deadline - clock.monotonic();
      if (timeoutMs <= 0 || options.signal?.aborted) return output.result('continued', null);
      await journal.waitBeyond(Math.max(size, output.cursor), { timeoutMs, signal: woken.signal });
    }
  } finally {
    options.signal?.removeEventListener('abort', wake);
    options.expired?.removeEventListener('abort', wake);
  }
}

const halfLineMs = 10;

/** With the kernel its folder may be gone, too. */
function lengthOfDead(journal: RunJournal): number {
  try {
    return journal.size();
  } catch {
    return 0;
  }
}

/** Gathers records; texts of one kind in a row become one. */
class Output {
  readonly #runId: string;
  readonly #console: Array<ConsoleItem | [TextKind, string[]]> = [];
  cursor: number;
  #truncated = false;

  constructor(runId: string, cursor: number) {
    this.#runId = runId;
    this.cursor = cursor;
  }

  bytes(start: number): number {
    return this.cursor - start;
  }

  /** Takes records up to the first that the caller has to react to, and returns that one. */
  take(records: readonly JournalRecord[], size: number): JournalRecord | undefined {
    for (const record of records) {
      this.cursor = record.end;
      switch (record.t) {
        case 'media':
          this.#console.push(['media', [record.m, record.d]]);
          break;
        case 'truncated':
          this.#truncated = true;
          break;
        case 'waiting-input':
          // A question that something follows was answered already.
          if (record.end >= size) return record;
          break;
        case 'clean-finished':
        case 'build-finished':
        case 'finished':
          return record;
        default:
          this.#text(record.t, record.d);
      }
    }
    return undefined;
  }

  control(record: RunRecord): RunResult {
    if (record.t === 'waiting-input') return this.result('waiting-input', null, { is_password: record.p });
    if (record.t === 'finished') return { ...this.result(record.t, record.x), end: record };
    if (record.t === 'build-finished' || record.t === 'clean-finished') return this.result(record.t, record.x);
    return this.result('continued', null);
  }

  result(status: CollectStatus, exitCode: number | null, options: { is_password: boolean } | null = null): RunResult {
    const items = this.#console.map(
      (item): ConsoleItem =>
        item[0] === 'media' || typeof item[1] === 'string' ? (item as ConsoleItem) : [item[0], item[1].join('')],
    );
    const { cursor } = this;
    const truncated = this.#truncated;
    return { runId: this.#runId, status, exitCode, options, console: items, cursor, truncated, end: undefined };
  }

  #text(kind: TextKind, text: string): void {
    const last = this.#console.at(-1);
    if (last && last[0] === kind && Array.isArray(last[1])) (last[1] as string[]).push(text);
    else this.#console.push([kind, [text]]);
  }
}
