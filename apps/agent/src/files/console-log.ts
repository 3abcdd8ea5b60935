import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { LogChunk } from '@backend.ai/contract';
import { at, folderFlags } from './safe-open.ts';

/**
 * What a kernel writes is a stream of bytes of which the newest are kept, in one file or two: when the first is full it
 * becomes the second and a fresh one begins. A cursor names a place in that stream that outlives this: the file, the
 * offset in it, and a checksum of what stands before, because a new file may get the number of an old one.
 */

/** A stretch of the stream. */
export interface LogPart {
  /** Number of the file. */
  readonly file: string;
  /** Offset in the file at which the stretch begins; what stood before is not kept. */
  readonly from: number;
  readonly bytes: number;
}

/** The stretches that are there, oldest first. */
export interface OpenLog {
  readonly parts: readonly LogPart[];
  /** @param offset In the file */
  read(part: LogPart, offset: number, length: number): Buffer;
  close(): void;
}

export interface ConsoleLog {
  open(): OpenLog;
}

export interface LogRequest {
  /** Null: from the beginning of what is kept. */
  readonly cursor: string | null;
  /** Without a cursor: no more than so many lines of what is there. */
  readonly tailLines?: number | null | undefined;
  readonly maxBytes: number;
}

/** The console files of a runner, in a folder that a stranger writes to. */
export class ConsoleFiles implements ConsoleLog {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  open(): OpenLog {
    const fds = new Map<string, number>();
    const parts: LogPart[] = [];
    let folderFd: number | undefined;
    try {
      folderFd = openSync(this.#folder, folderFlags);
      // The newer one first: if it is renamed meanwhile it is met twice, but nothing is missed.
      for (const name of ['console.log', 'console.log.1']) {
        const found = openPart(folderFd, name);
        if (!found) continue;
        if (fds.has(found.part.file)) closeSync(found.fd);
        else {
          fds.set(found.part.file, found.fd);
          parts.unshift(found.part);
        }
      }
    } catch {
      // The folder is not there yet, or not any more.
    } finally {
      if (folderFd !== undefined) closeSync(folderFd);
    }
    return {
      parts,
      read(part, offset, length) {
        const bytes = Buffer.alloc(length);
        return bytes.subarray(0, readSync(fds.get(part.file) ?? -1, bytes, 0, length, offset));
      },
      close() {
        for (const fd of fds.values()) closeSync(fd);
      },
    };
  }
}

function openPart(folderFd: number, name: string): { readonly part: LogPart; readonly fd: number } | undefined {
  let fd: number;
  try {
    fd = openSync(at(folderFd, name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  const stat = fstatSync(fd);
  if (stat.isFile() && stat.nlink <= 1) return { part: { file: String(stat.ino), from: 0, bytes: stat.size }, fd };
  closeSync(fd);
  return undefined;
}

/** What follows the cursor, as text that ends with a whole character. Empty: nothing new. */
export function readLog(log: OpenLog, { cursor, tailLines, maxBytes }: LogRequest): Omit<LogChunk, 'ended'> {
  const { parts } = log;
  const place = cursor === null ? undefined : find(log, cursor);
  // With no part at all nothing can be said: the files are just being made, or removed.
  const missed = cursor !== null && parts.length > 0 && place === undefined;
  const start = place ?? (typeof tailLines === 'number' && cursor === null ? tailOf(log, tailLines) : beginning(parts));
  if (!start) return { text: '', cursor, missed: false };
  let { index, offset } = start;
  // At the end of a file that is followed by another one the stream goes on there.
  for (let part = parts[index]; part && offset >= part.from + part.bytes && index < parts.length - 1; ) {
    index += 1;
    part = parts[index];
    offset = part?.from ?? 0;
  }
  const part = parts[index] as LogPart;
  const end = part.from + part.bytes;
  const data = log.read(part, offset, Math.max(0, Math.min(maxBytes, end - offset)));
  const isLast = index === parts.length - 1;
  const whole = isLast || offset + data.length < end ? data.subarray(0, wholeCharacters(data)) : data;
  const next = cursorAt(log, part, offset + whole.length);
  return { text: whole.toString('utf8'), cursor: next, missed };
}

interface Place {
  readonly index: number;
  readonly offset: number;
}

function beginning(parts: readonly LogPart[]): Place | undefined {
  return parts[0] && { index: 0, offset: parts[0].from };
}

/** So many bytes before a place tell whether it is still the same. */
const checkedBytes = 64;

function cursorAt(log: OpenLog, part: LogPart, offset: number): string {
  return `${part.file}-${offset}-${checksumBefore(log, part, offset) ?? 0}`;
}

/** Null: some of what stood before is not kept. */
function checksumBefore(log: OpenLog, part: LogPart, offset: number): number | null {
  const from = Math.max(0, offset - checkedBytes);
  return from < part.from ? null : crc32(log.read(part, from, offset - from));
}

function find(log: OpenLog, cursor: string): Place | undefined {
  const [, file, offsetText, checksum] = /^(\d+)-(\d+)-(\d+)$/.exec(cursor) ?? [];
  const offset = Number(offsetText);
  const index = log.parts.findIndex((part) => part.file === file);
  const part = log.parts[index];
  if (!part || offset < part.from || offset > part.from + part.bytes) return undefined;
  const present = checksumBefore(log, part, offset);
  return present === null || present === Number(checksum) ? { index, offset } : undefined;
}

const newline = 0x0a;

/** Where the last lines begin. A last line without its end counts as one. */
function tailOf(log: OpenLog, lines: number): Place | undefined {
  let left = lines;
  for (let index = log.parts.length - 1; index >= 0; index--) {
    const part = log.parts[index] as LogPart;
    const data = log.read(part, part.from, part.bytes);
    const isLast = index === log.parts.length - 1;
    for (let at = data.length - (isLast && data.at(-1) === newline ? 2 : 1); at >= 0; at--) {
      if (data[at] !== newline) continue;
      left -= 1;
      if (left <= 0) return { index, offset: part.from + at + 1 };
    }
  }
  return beginning(log.parts);
}

/** How much of it ends with a whole character. What is no text counts as whole. */
function wholeCharacters(data: Buffer): number {
  for (let back = 1; back <= Math.min(3, data.length); back++) {
    const byte = data[data.length - back] as number;
    if ((byte & 0xc0) === 0x80) continue;
    const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needed > back ? data.length - back : data.length;
  }
  return data.length;
}
