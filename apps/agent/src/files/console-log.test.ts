import { appendFileSync, existsSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeTempDirectory } from '@backend.ai/testing';
import fc from 'fast-check';
import { expect, it, onTestFinished } from 'vitest';
import { keptConsole } from '../kernels/follow-log.ts';
import { ConsoleFiles, type ConsoleLog, readLog } from './console-log.ts';
import { keepLog } from './kept-log.ts';

async function console() {
  const directory = await makeTempDirectory();
  onTestFinished(() => directory.remove());
  const at = (name: string): string => join(directory.path, name);
  const rotate = (): void => {
    if (existsSync(at('console.log'))) renameSync(at('console.log'), at('console.log.1'));
  };
  const write = (data: string | Buffer): void => appendFileSync(at('console.log'), data);
  return { at, rotate, write, log: new ConsoleFiles(directory.path) };
}

function read(log: ConsoleLog, cursor: string | null, more: { maxBytes?: number; tailLines?: number } = {}) {
  const open = log.open();
  try {
    return readLog(open, { cursor, maxBytes: 1_000_000, ...more });
  } finally {
    open.close();
  }
}

function rest(log: ConsoleLog, cursor: string | null): { text: string; cursor: string | null; missed: boolean } {
  let all = { text: '', cursor, missed: false };
  for (let next = read(log, cursor); next.text !== ''; next = read(log, all.cursor))
    all = { text: all.text + next.text, cursor: next.cursor, missed: all.missed || next.missed };
  return all;
}

it('is read piece by piece without loss or repetition, whatever is written, read and turned over in between', async () => {
  const step = fc.oneof(
    fc.record({ write: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }) }),
    fc.record({ read: fc.integer({ min: 16, max: 64 }) }),
    fc.constant({ rotate: true }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const directory = await makeTempDirectory();
      try {
        const log = new ConsoleFiles(directory.path);
        const newer = join(directory.path, 'console.log');
        let [written, seen] = ['', ''];
        let cursor: string | null = null;
        const drain = (): void => {
          const all = rest(log, cursor);
          expect(all.missed).toBe(false);
          seen += all.text;
          cursor = all.cursor;
        };
        for (const each of steps) {
          if ('write' in each) {
            appendFileSync(newer, each.write);
            written += each.write;
          } else if ('read' in each) {
            const piece = read(log, cursor, { maxBytes: each.read });
            expect(piece.missed).toBe(false);
            seen += piece.text;
            cursor = piece.cursor;
          } else if (existsSync(newer)) {
            // One that is read in time: what is in the older file is lost with this.
            drain();
            renameSync(newer, `${newer}.1`);
          }
        }
        drain();
        expect(seen).toBe(written);
      } finally {
        await directory.remove();
      }
    }),
    { numRuns: 60 },
  );
});

it('goes on in the next file, and says when what came before is gone', async () => {
  const { write, rotate, log } = await console();
  write('one\n');
  const { cursor } = read(log, null);
  write('two\n');
  rotate();
  write('three\n');
  expect(rest(log, cursor)).toMatchObject({ text: 'two\nthree\n', missed: false });
  rotate();
  write('four\n');
  expect(read(log, cursor)).toMatchObject({ text: 'three\n', missed: true });
});

it('does not take a new file for the one that had its number before', async () => {
  const { at, write, log } = await console();
  write('what was here\n');
  const { cursor } = read(log, null);
  // The same number, other contents.
  writeFileSync(at('console.log'), 'something else, which is longer\n');
  expect(read(log, cursor)).toMatchObject({ text: 'something else, which is longer\n', missed: true });
});

it('waits for the rest of a character', async () => {
  const { write, log } = await console();
  const euro = Buffer.from('€');
  write(Buffer.concat([Buffer.from('5 '), euro.subarray(0, 2)]));
  const first = read(log, null);
  expect(first.text).toBe('5 ');
  write(euro.subarray(2));
  expect(read(log, first.cursor).text).toBe('€');
});

it('begins with the last lines when that is wanted, also over two files', async () => {
  const { write, rotate, log } = await console();
  write('1\n2\n3\n');
  rotate();
  write('4\n5');
  const tail = (tailLines: number): string => {
    const first = read(log, null, { tailLines });
    return first.text + rest(log, first.cursor).text;
  };
  expect([tail(1), tail(2), tail(3), tail(99)]).toEqual(['5', '4\n5', '3\n4\n5', '1\n2\n3\n4\n5']);
  write('\n');
  expect(tail(1)).toBe('5\n');
});

it('follows no link that a stranger put there, and says nothing before anything is written', async () => {
  const { at, log } = await console();
  expect(read(log, null)).toEqual({ text: '', cursor: null, missed: false });
  writeFileSync(at('secret'), 'secret');
  symlinkSync(at('secret'), at('console.log'));
  expect(read(log, null).text).toBe('');
});

it('what is kept of it goes on from the same places, and is no more than was asked for', async () => {
  const { write, rotate, log } = await console();
  write('a'.repeat(100));
  const { cursor } = read(log, null);
  write('b'.repeat(100));
  rotate();
  write('c'.repeat(50));
  const whole = keptConsole(keepLog(log)!);
  expect(rest(whole, null).text).toHaveLength(250);
  expect(rest(whole, cursor)).toMatchObject({ text: 'b'.repeat(100) + 'c'.repeat(50), missed: false });
  const end = keptConsole(keepLog(log, 120)!);
  expect(rest(end, cursor)).toMatchObject({ text: 'b'.repeat(70) + 'c'.repeat(50), missed: true });
});
