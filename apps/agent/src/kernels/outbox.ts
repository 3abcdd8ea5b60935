import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { type KernelEvent, kernelEventSchema } from '@backend.ai/contract';
import { type Clock, newRequestId } from '@backend.ai/core';
import { type Logger, runWithRequest } from '@backend.ai/telemetry';

/** What the caller knows of an event; the outbox adds the sequence number. */
export type UnnumberedEvent = KernelEvent extends infer Event
  ? Event extends unknown
    ? Omit<Event, 'seq'>
    : never
  : never;

type Line = { readonly acked: number } | { readonly event: KernelEvent };

const compactAboveBytes = 64 * 1024;
/** When a disk that took nothing is tried again. */
const retryMs = 1_000;

export interface OutboxOptions {
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Events that the manager has not acknowledged yet, in a file of JSON lines.
 *
 * A line is appended before `append` returns, so that an event outlives a crash of this process (not of the machine:
 * nothing waits for the disk, and heartbeats tell the truth afterwards). A crash can only tear the last line, which is
 * cut off on opening. Sequence numbers never repeat: the file always holds the highest one given out or acknowledged.
 *
 * No event is lost to a disk that takes nothing, and nobody who tells one fails of it: what could not be written waits in
 * memory, is sent like the rest, and is written, in order, as soon as there is room. An agent that dies before that has
 * numbers told to it by the manager; see `continueAfter`.
 */
export class Outbox {
  readonly #path: string;
  readonly #options: OutboxOptions;
  #fd: number;
  #bytes: number;
  #pending: KernelEvent[];
  #acked: number;
  #lastSeq: number;
  /** The end of the file that the disk has not taken yet. */
  #unwritten: Buffer = Buffer.alloc(0);
  #cancelRetry: (() => void) | undefined;
  /** Most of it is acknowledged. */
  #oversized = false;
  #closed = false;

  private constructor(
    path: string,
    options: OutboxOptions,
    fd: number,
    bytes: number,
    acked: number,
    lastSeq: number,
    pending: KernelEvent[],
  ) {
    this.#path = path;
    this.#options = options;
    this.#fd = fd;
    this.#bytes = bytes;
    this.#acked = acked;
    this.#lastSeq = lastSeq;
    this.#pending = pending;
  }

  static open(path: string, options: OutboxOptions): Outbox {
    const content = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
    const whole = content.lastIndexOf(0x0a) + 1;
    if (whole < content.length) truncateSync(path, whole);
    let acked = 0;
    let lastSeq = 0;
    const pending: KernelEvent[] = [];
    for (const text of content.subarray(0, whole).toString().split('\n')) {
      const line = parseLine(text);
      if (!line) continue;
      if ('acked' in line) acked = Math.max(acked, line.acked);
      else pending.push(line.event);
      lastSeq = Math.max(lastSeq, 'acked' in line ? line.acked : line.event.seq);
    }
    const open = pending.filter((event) => event.seq > acked);
    return new Outbox(path, options, openSync(path, 'a', 0o600), whole, acked, lastSeq, open);
  }

  /** Events not acknowledged, oldest first. */
  get pending(): readonly KernelEvent[] {
    return this.#pending;
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  append(event: UnnumberedEvent): KernelEvent {
    const numbered = { ...event, seq: this.#lastSeq + 1 } as KernelEvent;
    this.#write({ event: numbered });
    this.#lastSeq = numbered.seq;
    this.#pending.push(numbered);
    return numbered;
  }

  /** Everything up to `seq` is safe at the manager. */
  acknowledge(seq: number): void {
    if (seq <= this.#acked) return;
    this.#acked = seq;
    this.#lastSeq = Math.max(this.#lastSeq, seq);
    this.#pending = this.#pending.filter((event) => event.seq > seq);
    this.#oversized ||= this.#bytes > compactAboveBytes;
    this.#write({ acked: seq });
  }

  /**
   * The manager knows numbers that this outbox never gave out: its file was lost. What waits is renumbered above them,
   * else it would be taken for known.
   */
  continueAfter(seq: number): void {
    if (seq <= this.#lastSeq) {
      this.acknowledge(seq);
      return;
    }
    this.#pending = this.#pending.map((event, index) => ({ ...event, seq: seq + 1 + index }));
    this.#acked = seq;
    this.#lastSeq = seq + this.#pending.length;
    this.#write({ acked: seq }, ...this.#pending.map((event) => ({ event })));
  }

  close(): void {
    if (this.#cancelRetry) this.#flush();
    this.#cancelRetry?.();
    this.#closed = true;
    closeSync(this.#fd);
  }

  #write(...lines: Line[]): void {
    this.#unwritten = Buffer.concat([this.#unwritten, encode(lines)]);
    if (!this.#cancelRetry && !this.#closed) this.#flush();
  }

  /** A part of a line that was taken is continued, never repeated: a line can be torn at the end of the file only. */
  #flush(): void {
    const { clock, logger } = this.#options;
    const isRetry = this.#cancelRetry !== undefined;
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    try {
      while (this.#unwritten.length > 0) {
        const count = writeSync(this.#fd, this.#unwritten);
        this.#bytes += count;
        this.#unwritten = this.#unwritten.subarray(count);
      }
      if (this.#oversized) this.#rewrite();
      if (isRetry) logger.info('events are written down again');
    } catch (error) {
      if (!isRetry) logger.error('events cannot be written down, and wait in memory', { error });
      this.#cancelRetry = clock.setTimer(retryMs, () =>
        runWithRequest({ requestId: newRequestId() }, () => this.#flush()),
      );
    }
  }

  /** Drops what is acknowledged: a new file takes the place of the old one at once. */
  #rewrite(): void {
    const data = encode([{ acked: this.#acked }, ...this.#pending.map((event) => ({ event }))]);
    const draft = `${this.#path}.new`;
    const fd = openSync(draft, 'w', 0o600);
    try {
      writeFileSync(fd, data);
      renameSync(draft, this.#path);
    } catch (error) {
      closeSync(fd);
      rmSync(draft, { force: true });
      throw error;
    }
    closeSync(this.#fd);
    this.#fd = fd;
    this.#bytes = data.length;
    this.#oversized = false;
  }
}

function encode(lines: readonly Line[]): Buffer {
  return Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}

function parseLine(text: string): Line | undefined {
  if (text === '') return undefined;
  try {
    const value = JSON.parse(text) as { acked?: unknown; event?: unknown };
    if (typeof value.acked === 'number') return { acked: value.acked };
    const event = kernelEventSchema.safeParse(value.event);
    return event.success ? { event: event.data } : undefined;
  } catch {
    return undefined;
  }
}
