import { writeSync } from 'node:fs';
import { requireRequestId } from './request-context.ts';

/** Attempts at a pipe whose reader is behind before records are dropped. */
const busyAttempts = 100;

/**
 * Writes records to an open descriptor at once. A full disk or a reader that went away never ends a service: records
 * are dropped, and their number is written when there is room again.
 */
export class LogSink {
  #descriptor: number;
  #dropped = 0;
  /** The last record stands there in part. */
  #torn = false;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  get descriptor(): number {
    return this.#descriptor;
  }

  /** Records that were lost since the last one that was written. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Goes on elsewhere; the caller closes the old one. */
  redirect(descriptor: number): void {
    this.#descriptor = descriptor;
    this.#torn = false;
  }

  /** @returns how many bytes were written; 0 for a record that is lost */
  write(line: string): number {
    try {
      const notice = this.#dropped > 0 ? `${JSON.stringify(droppedRecord(this.#dropped))}\n` : '';
      const bytes = this.#append(`${this.#torn ? '\n' : ''}${notice}${line}`);
      this.#torn = false;
      this.#dropped = 0;
      return bytes;
    } catch {
      this.#dropped += 1;
      return 0;
    }
  }

  #append(text: string): number {
    const bytes = Buffer.from(text);
    let written = 0;
    let busy = 0;
    while (written < bytes.length) {
      try {
        written += writeSync(this.#descriptor, bytes, written);
        busy = 0;
      } catch (error) {
        this.#torn ||= written > 0;
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || ++busy > busyAttempts) throw error;
      }
    }
    return bytes.length;
  }
}

function droppedRecord(dropped: number): Record<string, unknown> {
  const time = new Date().toISOString();
  return { level: 'warn', time, request_id: requireRequestId(), msg: 'log records were dropped', dropped };
}
