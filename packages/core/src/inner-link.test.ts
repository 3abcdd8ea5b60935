import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isInnerLink } from './inner-link.ts';

/** Whether following a path ever goes above the root, with links as a kernel follows them. A circle stays where it is. */
function leaves(links: ReadonlyMap<string, string>, path: string): boolean {
  const at: string[] = [];
  const rest = path.split('/');
  for (let steps = 0; rest.length > 0 && steps < 500; steps += 1) {
    const part = rest.shift() ?? '';
    if (part === '' || part === '.') continue;
    if (part === '..') {
      if (at.pop() === undefined) return true;
      continue;
    }
    const target = links.get([...at, part].join('/'));
    if (target === undefined) at.push(part);
    else rest.unshift(...target.split('/'));
  }
  return false;
}

describe('isInnerLink', () => {
  it.each([
    ['a', 'b'],
    ['a/b', '../c'],
    ['a/b/c', '.././../d/e'],
    ['a', '.'],
    ['a/b', '..'],
  ])('takes %s -> %s', (name, target) => {
    expect(isInnerLink(name, target)).toBe(true);
  });

  it.each([
    ['a', '..'],
    ['a/b', '../../c'],
    ['a', '/etc/passwd'],
    ['a', ''],
    ['a', 'b/..'],
    ['a', 'b/../../c'],
  ])('refuses %s -> %s', (name, target) => {
    expect(isInnerLink(name, target)).toBe(false);
  });

  it('lets no chain of links out', () => {
    const name = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 });
    const target = fc.array(fc.constantFrom('a', 'b', 'c', '..', '.'), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(fc.array(fc.tuple(name, target), { maxLength: 8 }), (drawn) => {
        const links = new Map<string, string>();
        for (const [nameParts, targetParts] of drawn) {
          const [from, to] = [nameParts.join('/'), targetParts.join('/')];
          // What holds a link is a folder, and never a link itself.
          const stands = [...links.keys()].some(
            (other) => from.startsWith(`${other}/`) || other.startsWith(`${from}/`),
          );
          if (!stands && isInnerLink(from, to)) links.set(from, to);
        }
        for (const link of links.keys()) expect(leaves(links, link)).toBe(false);
      }),
      { numRuns: 1000 },
    );
  });
});
