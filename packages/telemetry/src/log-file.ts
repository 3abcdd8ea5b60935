import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

export interface LogFileOptions {
  readonly path: string;
  /** The file is renamed to `<path>.1`, replacing an older one, when it would grow beyond this. */
  readonly maxBytes?: number;
}

/**
 * Where log records of a service go: one file and its predecessor, written at once so that a killed process loses
 * nothing. A full disk never ends a service: records are dropped, and their number is written when there is room again.
 */
export class LogFile {
  readonly #path: string;
  readonly #maxBytes: number;
  #descriptor: number;
  #size: number;
  #dropped = 0;

  constructor(options: LogFileOptions) {
    this.#path = options.path;
    this.#maxBytes = options.maxBytes ?? 64 * 1024 * 1024;
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    this.#descriptor = this.#open();
    this.#size = fstatSync(this.#descriptor).size;
  }

  write(line: string): void {
    try {
      if (this.#size + line.length > this.#maxBytes) this.#rotate();
      if (this.#dropped > 0) {
        this.#append(`${JSON.stringify({ level: 'warn', msg: 'log records were dropped', dropped: this.#dropped })}\n`);
        this.#dropped = 0;
      }
      this.#append(line);
    } catch {
      this.#dropped += 1;
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #append(text: string): void {
    const bytes = Buffer.from(text);
    let written = 0;
    while (written < bytes.length) written += writeSync(this.#descriptor, bytes, written);
    this.#size += bytes.length;
  }

  #open(): number {
    return openSync(this.#path, 'a', 0o600);
  }

  #rotate(): void {
    renameSync(this.#path, `${this.#path}.1`);
    closeSync(this.#descriptor);
    this.#descriptor = this.#open();
    this.#size = 0;
  }
}
