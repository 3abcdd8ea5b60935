import { closeSync, openSync, readSync } from 'node:fs';

/** Large enough for everything that is read here; all reads are synchronous, so one serves all. */
const buffer = Buffer.alloc(64 * 1024);

/**
 * A file of the system that counts, kept open: each look is one read. Such files are answered from memory, so that
 * waiting for a thread would cost more than the read does.
 */
export class CounterFile {
  readonly #path: string;
  #fd: number | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** Null: there is no such file, or what it was about is gone. */
  read(): string | null {
    try {
      this.#fd ??= openSync(this.#path, 'r');
      return buffer.toString('latin1', 0, readSync(this.#fd, buffer, 0, buffer.length, 0));
    } catch {
      this.close();
      return null;
    }
  }

  close(): void {
    if (this.#fd === undefined) return;
    closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** The number behind a name, in lines of `NAME NUMBER`. */
export function fieldOf(text: string, name: string): number | null {
  const at = text.startsWith(`${name} `) ? 0 : text.indexOf(`\n${name} `) + 1;
  if (at === 0 && !text.startsWith(`${name} `)) return null;
  const value = Number.parseInt(text.slice(at + name.length + 1, at + name.length + 24), 10);
  return Number.isNaN(value) ? null : value;
}
