import { expect, it } from 'vitest';
import { byId, changeText } from './words.ts';

it.each([
  [1, 'once the session before it is gone'],
  [2, 'once the 2 sessions before it are gone'],
])('with %i sessions before it, it would start %s', (ahead, text) => {
  expect(changeText({ kind: 'wait-for-queue', ahead }, byId)).toBe(text);
});
