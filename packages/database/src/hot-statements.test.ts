import { expect, it } from 'vitest';
import { HotStatements } from './hot-statements.ts';

it('prepares a statement when its text comes back', () => {
  const hot = new HotStatements();
  expect([1, 2, 3].map(() => hot.shouldPrepare('select $1'))).toEqual([false, true, true]);
});

it('prepares a bounded number of texts', () => {
  const hot = new HotStatements();
  const texts = Array.from({ length: 5_000 }, (_, index) => `select ${index}`);
  const prepared = texts.filter((text) => !hot.shouldPrepare(text) && hot.shouldPrepare(text));
  expect(prepared).toHaveLength(256);
});
