import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quoteWords } from './shell-words.ts';

/** What a real shell makes of it: each word ended by a NUL. */
function wordsOf(line: string): string[] {
  const output = execFileSync('/bin/sh', ['-c', `printf '%s\\0' ${line}`], { encoding: 'utf8' });
  return output.split('\0').slice(0, -1);
}

describe('quoteWords', () => {
  it.each([
    [["it's"]],
    [['']],
    [['$HOME', '`id`', '$(id)']],
    [['a\nb', '\\', '"', '*', '~', '!', '#']],
    [['-n', '=x']],
  ])('keeps %j', (words) => {
    expect(wordsOf(quoteWords(words))).toEqual(words);
  });

  it('survives a real shell whatever the words are', () => {
    const word = fc
      .oneof(fc.string({ unit: 'grapheme' }), fc.string({ unit: fc.constantFrom(...`'"\\$\`!*?[]{}()<>|&;~# \t\n=a`) }))
      .filter((text) => !text.includes('\0'));
    // One shell for many words: starting it is what takes time.
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 40 }), (words) => {
        expect(wordsOf(quoteWords(words))).toEqual(words);
      }),
      { numRuns: 40 },
    );
  });
});
