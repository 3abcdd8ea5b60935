import { describe, expect, it } from 'vitest';
import { type KeyFacts, lackingIt, missedBy, newestOf, notUsingIt, stateOf } from './rotation.ts';

const manager = (id: string, ids: string[], encrypts: string) => ({ id, told: { ids, encrypts } });
/** `b` encrypts after `a`; `m-2` has `c` already, `m-3` has told nothing. */
const facts: KeyFacts = {
  current: 'b',
  generations: [
    { id: 'a', since: null },
    { id: 'b', since: '2026-01-01 00:00:00+00' },
  ],
  managers: [manager('m-1', ['a', 'b'], 'a'), manager('m-2', ['b', 'c'], 'b'), { id: 'm-3', told: null }],
};

describe('keys of an installation', () => {
  it('are the next, the current and the old ones', () => {
    expect(['a', 'b', 'c'].map((id) => stateOf(id, facts))).toEqual(['old', 'current', 'next']);
    const once = { ...facts, current: 'a', generations: [{ id: 'a', since: null }] };
    expect(['a', 'b'].map((id) => stateOf(id, once))).toEqual(['current', 'next']);
  });

  it('move on to the next one of a file, and never back to an old one', () => {
    expect(newestOf(['a', 'b', 'c'], facts)).toBe('c');
    expect(newestOf(['b', 'a'], facts)).toBe('b');
  });

  it('are missed by a file when another manager has a next one that it lacks', () => {
    expect(missedBy(['a', 'b'], facts)).toEqual({ id: 'c', manager: 'm-2' });
    expect(missedBy(['b', 'c'], facts)).toBeUndefined();
  });

  it('have every manager for their use only when it has told so', () => {
    expect(lackingIt('b', facts.managers)).toEqual(['m-3']);
    expect(lackingIt('c', facts.managers)).toEqual(['m-1', 'm-3']);
    expect(notUsingIt('b', facts.managers)).toEqual(['m-1', 'm-3']);
  });
});
