import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { writeFields } from './output.ts';

it('fields of several lines stay in their column', () => {
  const stream = new PassThrough();
  writeFields(stream, [
    ['id', 'one'],
    ['options', 'backfill: true\nscheduler: drf'],
  ]);
  expect(String(stream.read())).toBe('id       one\noptions  backfill: true\n         scheduler: drf\n');
});
