import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseSync, Visitor } from 'vite';
import { describe, expect, it } from 'vitest';

/** The document names tests by their files and titles, which are there. */

const root = join(import.meta.dirname, '..');
const page = readFileSync(join(root, 'docs/dev/failures-of-the-original.md'), 'utf8');
const [greater = '', smaller = ''] = page.split('\n## ');
const folders: Readonly<Record<string, string>> = { M: 'apps/manager', A: 'apps/agent', P: 'packages' };
const reasonForNone = 'does not apply: ';

const rowsOf = (part: string) =>
  [...part.matchAll(/^\| (\d+) \| .+? \| (.+) \|$/gm)].map(([, number, ours = '']) => ({
    number: Number(number),
    ours,
  }));

/** A semicolon may be part of a title, too. */
const partsOf = (ours: string): string[] => ours.split(/; (?=(?:[MAP] )?`)/);

/** What `describe`, `it` and `test` are called with, also those with cases or conditions. */
function titlesIn(file: string): Set<string> {
  const titles = new Set<string>();
  new Visitor({
    CallExpression({ callee, arguments: [title] }) {
      if (/^(describe|it|test)$/.test(rootOf(callee)) && title?.type === 'Literal') titles.add(String(title.value));
    },
  }).visit(parseSync(file, readFileSync(file, 'utf8')).program);
  return titles;
}

/** `it` of `it.skipIf(condition)`. */
function rootOf(node: { type: string; object?: unknown; callee?: unknown; name?: unknown }): string {
  const inner = node.object ?? node.callee;
  return inner ? rootOf(inner as Parameters<typeof rootOf>[0]) : String(node.name);
}

describe.each([
  ['failure', rowsOf(greater), 30],
  ['smaller failure', rowsOf(smaller), 12],
] as const)('each %s', (_what, rows, count) => {
  it(`is answered, from 1 to ${count}`, () => {
    expect(rows.map(({ number }) => number)).toEqual(Array.from({ length: count }, (_, nth) => nth + 1));
  });

  it.each(rows)('$number has a test or a reason why it needs none', ({ ours }) => {
    const [first = '', ...others] = partsOf(ours);
    const references = first.startsWith(reasonForNone) ? others : [first, ...others];
    if (references.length === others.length) expect(first.length).toBeGreaterThan(reasonForNone.length);
    for (const reference of references) {
      const [, of = '', name = '', title = ''] = /^(?:([MAP]) )?`([^`]+)`: (.+)$/.exec(reference) ?? [];
      const file = join(root, folders[of] ?? '', name === 'failures' ? 'tests/failures-of-the-original.test.ts' : name);
      expect(existsSync(file), reference).toBe(true);
      expect([...titlesIn(file)]).toContain(title);
    }
  });
});
