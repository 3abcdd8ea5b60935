import { expect, it } from 'vitest';
import { byId, changeText } from './words.ts';

it('tells from when on others may be made to leave, and who', () => {
  expect(changeText({ kind: 'wait-until', at: 0, sessions: ['s'] }, byId)).toBe(
    'once it is 1970-01-01T00:00:00.000Z, from when on s may be made to leave for it',
  );
});

it.each([
  [1, 'once the session before it is gone'],
  [2, 'once the 2 sessions before it are gone'],
])('with %i sessions before it, it would start %s', (ahead, text) => {
  expect(changeText({ kind: 'wait-for-queue', ahead }, byId)).toBe(text);
});
