import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LogFile } from './log-file.ts';

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

test('a full disk drops records without an error', () => {
  if (!existsSync('/dev/full')) return;
  const file = new LogFile({ path: '/dev/full' });
  expect(() => file.write('lost\n')).not.toThrow();
  file.close();
});
