import { closeSync, fstatSync, mkdirSync, openSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { LogSink } from './log-sink.ts';
import { requireRequestId } from './request-context.ts';

export interface LogFileOptions {
  readonly path: string;
  /** The file is renamed to `<path>.1`, replacing an older one, when it would grow beyond this. */
  readonly maxBytes?: number;
}

/**
 * Where log records of a service go: one file and its predecessor, written at once so that a killed process loses
 * nothing. What happens on a full disk is told at `LogSink`.
 */
export class LogFile {
  readonly #path: string;
  readonly #maxBytes: number;
  readonly #sink: LogSink;
  #size: number;

  constructor(options: LogFileOptions) {
    this.#path = options.path;
    this.#maxBytes = options.maxBytes ?? 64 * 1024 * 1024;
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    this.#sink = new LogSink(this.#open());
    this.#size = fstatSync(this.#sink.descriptor).size;
  }

  write(line: string): void {
    if (this.#size > 0 && this.#size + line.length > this.#maxBytes) this.#rotate();
    this.#size += this.#sink.write(line);
  }

  /** Opens the path anew: for those who move log files away themselves. Goes on as before where that fails. */
  reopen(): void {
    const old = this.#sink.descriptor;
    let descriptor: number;
    try {
      descriptor = this.#open();
    } catch (error) {
      const record = { level: 'error', time: new Date().toISOString(), request_id: requireRequestId() };
      this.#sink.write(
        `${JSON.stringify({ ...record, msg: 'log file cannot be opened anew', error: String(error) })}\n`,
      );
      return;
    }
    this.#sink.redirect(descriptor);
    closeSync(old);
    this.#size = fstatSync(descriptor).size;
  }

  close(): void {
    closeSync(this.#sink.descriptor);
  }

  #open(): number {
    return openSync(this.#path, 'a', 0o600);
  }

  #rotate(): void {
    try {
      renameSync(this.#path, `${this.#path}.1`);
    } catch {
      // Somebody moved it away, or the folder is gone: the next records go on where they can.
    }
    this.reopen();
  }
}
