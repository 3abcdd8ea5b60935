import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { type KernelEvent, kernelEventSchema } from '@backend.ai/contract';

/** What the caller knows of an event; the outbox adds the sequence number. */
export type UnnumberedEvent = KernelEvent extends infer Event
  ? Event extends unknown
    ? Omit<Event, 'seq'>
    : never
  : never;

type Line = { readonly acked: number } | { readonly event: KernelEvent };

const compactAboveBytes = 64 * 1024;

/**
 * Events that the manager has not acknowledged yet, in a file of JSON lines.
 *
 * A line is appended before `append` returns, so that an event outlives a crash of this process (not of the machine:
 * nothing waits for the disk, and heartbeats tell the truth afterwards). A crash can only tear the last line, which is
 * cut off on opening. Sequence numbers never repeat: the file always holds the highest one given out or acknowledged.
 */
export class Outbox {
  readonly #path: string;
  #fd: number;
  #bytes: number;
  #pending: KernelEvent[];
  #acked: number;
  #lastSeq: number;

  private constructor(path: string, fd: number, bytes: number, acked: number, lastSeq: number, pending: KernelEvent[]) {
    this.#path = path;
    this.#fd = fd;
    this.#bytes = bytes;
    this.#acked = acked;
    this.#lastSeq = lastSeq;
    this.#pending = pending;
  }

  static open(path: string): Outbox {
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
    return new Outbox(path, openSync(path, 'a', 0o600), whole, acked, lastSeq, open);
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
    if (this.#bytes > compactAboveBytes) this.#rewrite();
    else this.#write({ acked: seq });
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
    this.#rewrite();
  }

  close(): void {
    closeSync(this.#fd);
  }

  #write(line: Line): void {
    const data = Buffer.from(`${JSON.stringify(line)}\n`);
    writeSync(this.#fd, data);
    this.#bytes += data.length;
  }

  /** Drops what is acknowledged: a new file takes the place of the old one at once. */
  #rewrite(): void {
    const lines: Line[] = [{ acked: this.#acked }, ...this.#pending.map((event) => ({ event }))];
    const data = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    writeFileSync(`${this.#path}.new`, data, { mode: 0o600 });
    renameSync(`${this.#path}.new`, this.#path);
    closeSync(this.#fd);
    this.#fd = openSync(this.#path, 'a', 0o600);
    this.#bytes = data.length;
  }
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
