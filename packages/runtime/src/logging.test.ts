import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { loggingSection, openLog } from './logging.ts';

const folder = mkdtempSync(join(tmpdir(), 'logging-'));
afterAll(() => rmSync(folder, { recursive: true }));

const section = loggingSection('rpc', 'http');

it('a log file holds JSON unless text is asked for, at the level asked for, and is opened anew on demand', () => {
  const file = join(folder, 'a.log');
  const log = openLog('test', section.parse({ file, level: 'warn', levels: { rpc: 'info' } }), true);
  log.logger.info('left out');
  log.logger.with({ module: 'rpc' }).info('kept');
  renameSync(file, `${file}.moved`);
  log.reopen();
  log.logger.warn('after');
  log.close();
  expect(JSON.parse(readFileSync(`${file}.moved`, 'utf8'))).toMatchObject({ component: 'test', msg: 'kept' });
  expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ msg: 'after' });

  const text = openLog('test', section.parse({ file: `${file}.text`, format: 'text' }), false);
  text.logger.info('hello', { a: 1 });
  text.close();
  expect(readFileSync(`${file}.text`, 'utf8')).toMatch(/^\d\d:\d\d:\d\d\.\d{3} INFO {2}test hello a=1\n$/);
});

it('a level for a module that does not exist is refused', () => {
  expect(section.safeParse({ levels: { http: 'debug' } }).success).toBe(true);
  expect(section.safeParse({ levels: { htp: 'debug' } }).success).toBe(false);
});

it('a log file that cannot be opened is one sentence', () => {
  const blocked = join(folder, 'file');
  writeFileSync(blocked, '');
  expect(() => openLog('test', section.parse({ file: join(blocked, 'a.log') }), false)).toThrow(
    expect.objectContaining({
      code: 'config-invalid',
      message: expect.stringMatching(/^The log file .* cannot be opened \((EEXIST|ENOTDIR)\)\.$/),
    }),
  );
});
