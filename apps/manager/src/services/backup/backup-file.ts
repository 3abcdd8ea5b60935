import { randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { AppError } from '@backend.ai/core';

/** One line of a backup, which is JSON lines in gzip. The last one, `end`, shows that none is missing. */
export type BackupLine =
  | {
      readonly kind: 'head';
      readonly format: 'backend.ai-backup';
      readonly formatVersion: 1;
      readonly version: string;
      readonly createdAt: string;
      readonly migrations: readonly string[];
      readonly sequences: Readonly<Record<string, string>>;
    }
  | { readonly kind: 'rows'; readonly table: string; readonly count: number; readonly rows: string }
  | { readonly kind: 'setting'; readonly key: string; readonly value: string }
  | { readonly kind: 'key-file'; readonly name: string; readonly content: string }
  | { readonly kind: 'end'; readonly lines: number };

/**
 * Writes beside the final name and renames at the end: what bears the name is whole. For its owner only, as it has keys:
 * the file beside it is made by this writer alone, under a name that nobody can have prepared.
 */
export class BackupWriter {
  readonly #file: string;
  readonly #part: string;
  readonly #gzip = createGzip();
  readonly #written: Promise<void>;
  #lines = 0;

  constructor(file: string) {
    this.#file = file;
    this.#part = `${file}.${randomBytes(8).toString('hex')}.part`;
    const part = createWriteStream(this.#part, { flags: 'wx', mode: 0o600, flush: true });
    this.#written = pipeline(this.#gzip, part).catch((cause: NodeJS.ErrnoException) => {
      throw new AppError('invalid-input', `The backup cannot be written to ${file} (${cause.code ?? cause.message}).`, {
        hint: 'Name a file in a folder that exists, may be written to and has room.',
        cause,
      });
    });
    // Told by whoever waits for it.
    this.#written.catch(() => {});
  }

  /** @throws AppError `invalid-input` when the file cannot be written */
  async write(line: BackupLine): Promise<void> {
    this.#lines += 1;
    if (this.#gzip.write(`${JSON.stringify(line)}\n`)) return;
    await Promise.race([new Promise((resolve) => this.#gzip.once('drain', resolve)), this.#written]);
  }

  async end(): Promise<void> {
    await this.write({ kind: 'end', lines: this.#lines });
    this.#gzip.end();
    await this.#written;
    await rename(this.#part, this.#file);
  }

  /** Leaves nothing behind. @returns what to tell: what kept the file from being written, else the given error */
  async discard(error: unknown): Promise<unknown> {
    // By itself it would end with an error of its own, which says nothing.
    const cause = this.#gzip.destroyed ? await this.#written.catch((reason: unknown) => reason) : error;
    this.#gzip.destroy();
    await this.#written.catch(() => {});
    await rm(this.#part, { force: true }).catch((failure: NodeJS.ErrnoException) => {
      // Its folder is a file: there was nothing to remove.
      if (failure.code !== 'ENOTDIR') throw failure;
    });
    return cause;
  }
}

const otherBackup = 'Name a whole file that was made with: ./backend.ai mgr backup FILE';

/** @throws AppError `file-not-found`; `invalid-input` for a file that is no backup, is cut short or damaged */
export async function* readBackup(file: string): AsyncGenerator<BackupLine> {
  let count = 0;
  let ended = false;
  try {
    for await (const line of linesOf(file)) {
      const parsed = JSON.parse(line) as BackupLine;
      if (count === 0 && (parsed.kind !== 'head' || parsed.format !== 'backend.ai-backup')) throw new Error('no head');
      if (parsed.kind === 'end') ended = parsed.lines === count;
      else yield parsed;
      count += 1;
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new AppError('file-not-found', `There is no file ${file}.`, {
        hint: 'Name the file that `./backend.ai mgr backup` wrote.',
        cause,
      });
    }
    throw new AppError('invalid-input', `${file} is not a backup, or is damaged.`, { hint: otherBackup, cause });
  }
  if (!ended) throw new AppError('invalid-input', `The backup ${file} is cut short.`, { hint: otherBackup });
}

async function* linesOf(file: string): AsyncGenerator<string> {
  const source = createReadStream(file);
  const text = createGunzip().setEncoding('utf8');
  source.on('error', (error) => text.destroy(error)).pipe(text);
  let rest = '';
  try {
    for await (const chunk of text) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      yield* lines;
    }
    if (rest !== '') yield rest;
  } finally {
    source.destroy();
  }
}
