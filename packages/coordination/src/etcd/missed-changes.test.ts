import { expect, it } from 'vitest';
import { missedChanges } from './missed-changes.ts';

it('tells what was added, changed and deleted, in order of revisions, and nothing else', () => {
  const known = new Map([
    ['same', 3],
    ['changed', 4],
    ['deleted', 5],
  ]);
  const present = [
    { key: 'added', value: 'a', revision: 9 },
    { key: 'changed', value: 'c', revision: 8 },
    { key: 'same', value: 's', revision: 3 },
  ];
  expect(missedChanges(known, present, 10)).toEqual([
    { key: 'changed', value: 'c', revision: 8 },
    { key: 'added', value: 'a', revision: 9 },
    { key: 'deleted', value: null, revision: 10 },
  ]);
});

it('takes any other revision for a change: an older copy of the store has smaller ones', () => {
  const change = { key: 'key', value: 'old', revision: 2 };
  expect(missedChanges(new Map([['key', 7]]), [change], 3)).toEqual([change]);
});
