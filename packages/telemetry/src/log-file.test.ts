import { spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LogFile } from './log-file.ts';
import { LogSink } from './log-sink.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'log-file-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('records are on disk when write returns, readable by the owner only', () => {
  const path = join(folder, 'logs', 'a.log');
  const file = new LogFile({ path });
  file.write('one\n');
  file.write('two\n');
  expect(readFileSync(path, 'utf8')).toBe('one\ntwo\n');
  expect(statSync(path).mode & 0o777).toBe(0o600);
  file.close();
});

test('a file that grows too large gives way to a new one and is kept once', () => {
  const path = join(folder, 'a.log');
  const file = new LogFile({ path, maxBytes: 10 });
  for (const line of ['11111111\n', '22222222\n', '33333333\n']) file.write(line);
  expect(readFileSync(path, 'utf8')).toBe('33333333\n');
  expect(readFileSync(`${path}.1`, 'utf8')).toBe('22222222\n');
  file.close();
});

test('a file that was moved away is made anew when asked', () => {
  const path = join(folder, 'a.log');
  const file = new LogFile({ path });
  file.write('one\n');
  renameSync(path, `${path}.moved`);
  file.write('two\n');
  file.reopen();
  file.write('three\n');
  expect(readFileSync(`${path}.moved`, 'utf8')).toBe('one\ntwo\n');
  expect(readFileSync(path, 'utf8')).toBe('three\n');
  file.close();
});

test('a file whose folder is gone is written on', () => {
  const path = join(folder, 'logs', 'a.log');
  const file = new LogFile({ path, maxBytes: 10 });
  file.write('11111111\n');
  rmSync(join(folder, 'logs'), { recursive: true });
  expect(() => file.write('22222222\n')).not.toThrow();
  expect(() => file.reopen()).not.toThrow();
  file.close();
});

test.skipIf(!existsSync('/dev/full'))(
  'a full disk drops records, and their number is told once when there is room',
  () => {
    const path = join(folder, 'a.log');
    const full = openSync('/dev/full', 'w');
    const room = openSync(path, 'w');
    const sink = new LogSink(full);
    expect(sink.write('lost\n')).toBe(0);
    expect(sink.write('lost\n')).toBe(0);
    expect(sink.dropped).toBe(2);
    sink.redirect(room);
    sink.write('kept\n');
    sink.write('kept\n');
    const [notice = '', ...rest] = readFileSync(path, 'utf8').split('\n');
    expect(JSON.parse(notice)).toMatchObject({
      level: 'warn',
      request_id: expect.any(String),
      msg: 'log records were dropped',
      dropped: 2,
    });
    expect(rest).toEqual(['kept', 'kept', '']);
    closeSync(full);
    closeSync(room);
  },
);

test('a record of which only a part fitted is ended before the next one', () => {
  const path = join(folder, 'pipe');
  spawnSync('mkfifo', [path]);
  const pipe = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const sink = new LogSink(pipe);
  const read = (): string => {
    const buffer = Buffer.alloc(1024 * 1024);
    return buffer.toString('utf8', 0, readSync(pipe, buffer));
  };
  sink.write(`${'a'.repeat(40_000)}\n`);
  expect(sink.write(`${'b'.repeat(100_000)}\n`)).toBe(0);
  expect(read()).toMatch(/^a{40000}\nb+$/);
  sink.write('c\n');
  const [end, notice = '', ...rest] = read().split('\n');
  expect(end).toBe('');
  expect(JSON.parse(notice)).toMatchObject({ dropped: 1 });
  expect(rest).toEqual(['c', '']);
  closeSync(pipe);
});
