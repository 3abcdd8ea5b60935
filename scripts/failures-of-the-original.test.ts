import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

/** The document tells of tests by their words, which are there. */

const root = join(import.meta.dirname, '..');
const page = readFileSync(join(root, 'docs/dev/failures-of-the-original.md'), 'utf8');
const rows = [...page.matchAll(/^\| (\d+) \| .+ \| (.+) \|$/gm)].map(([, number = '', ours = '']) => ({
  number,
  ours,
}));
const folders: Readonly<Record<string, string>> = { M: 'apps/manager', A: 'apps/agent', P: 'packages' };

it('all thirty failures are answered', () => {
  expect(rows.map(({ number }) => Number(number))).toEqual(Array.from({ length: 30 }, (_, nth) => nth + 1));
});

describe.each(rows.filter(({ ours }) => !ours.startsWith('does not apply: ')))('failure $number', ({ ours }) => {
  it.each(ours.split('; '))('%s', (reference) => {
    const [, of = '', name = '', words = ''] = /^(?:([MAP]) )?`([^`]+)`(?:: (.+))?$/.exec(reference) ?? [];
    const file = name === 'failures' ? 'tests/failures-of-the-original.test.ts' : name;
    const path = join(root, folders[of] ?? '', file);
    expect(existsSync(path), path).toBe(true);
    expect(readFileSync(path, 'utf8')).toContain(words);
  });
});
