import { inflateRawSync } from 'node:zlib';
import { type KeptLog, keptConsoleBytes, type SessionLogChunk } from '@backend.ai/contract';

/** As a manager has it of a kernel that has ended. */
export interface KeptOutput {
  /** Of agents that tell no more. */
  readonly log: string | null;
  readonly console: KeptLog | null;
}

/** All of it; undefined when nothing was kept. */
export function keptText({ log, console }: KeptOutput): string | undefined {
  return console ? unpack(console).toString('utf8') : (log ?? undefined);
}

/** What comes after a place in it; null is the beginning. */
export function keptAfter({ log, console }: KeptOutput, cursor: string | null): SessionLogChunk {
  if (!console) return { text: log && cursor === null ? log : '', missed: log !== null && cursor !== null };
  const data = unpack(console);
  const [file, offset] = (cursor ?? '').split('-');
  let begin = 0;
  for (const part of console.parts) {
    const inside = Number(offset) - part.from;
    if (part.file === file && inside >= 0 && inside <= part.bytes)
      return { text: data.toString('utf8', begin + inside), missed: false };
    begin += part.bytes;
  }
  return { text: data.toString('utf8'), missed: cursor !== null };
}

/** A last line without its end counts as one. */
export function lastLines(text: string, count: number): string {
  let from = text.length;
  for (let left = count; left > 0 && from > 0; left--) from = text.lastIndexOf('\n', from - 2) + 1;
  return text.slice(from);
}

/** @throws when it is larger than what is ever kept, or no such thing at all */
function unpack({ packed }: KeptLog): Buffer {
  return inflateRawSync(Buffer.from(packed, 'base64'), { maxOutputLength: keptConsoleBytes });
}
