/** Cuts a byte stream into lines of bounded length. */
export class LineSplitter {
  readonly #limit: number;
  #parts: Buffer[] = [];
  #size = 0;

  constructor(limitBytes: number) {
    this.#limit = limitBytes;
  }

  /** The lines that `chunk` completes, or undefined once a line is too long. */
  push(chunk: Buffer): string[] | undefined {
    const lines: string[] = [];
    let at = 0;
    for (;;) {
      const end = chunk.indexOf(10, at);
      const part = chunk.subarray(at, end < 0 ? chunk.length : end);
      this.#size += part.length;
      if (this.#size > this.#limit) return undefined;
      this.#parts.push(part);
      if (end < 0) return lines;
      lines.push((this.#parts.length === 1 ? part : Buffer.concat(this.#parts)).toString('utf8'));
      this.#parts = [];
      this.#size = 0;
      at = end + 1;
    }
  }
}
