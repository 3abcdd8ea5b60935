import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { modeText } from './home-files.ts';
import { homePathNames } from './home-path.ts';

describe('paths of a home folder', () => {
  it('are relative to it or begin with it', () => {
    expect(homePathNames('a//b/./c/')).toEqual(['a', 'b', 'c']);
    expect(homePathNames('/home/work/a')).toEqual(['a']);
    expect(homePathNames('/home/work')).toEqual([]);
    expect(homePathNames('.')).toEqual([]);
  });

  it.each(['..', 'a/../b', '/', '/etc/passwd', '/home/workers', '/home/work/../x', 'a\0b', 'x'.repeat(256)])(
    'refuse %j',
    (path) => {
      expect(() => homePathNames(path)).toThrow(expect.objectContaining({ code: 'invalid-path' }));
    },
  );

  it('never contain a name that leads elsewhere', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('..', '.', '', 'a', '/', '\0', 'home', 'work'), { maxLength: 8 }),
        (parts) => {
          try {
            for (const name of homePathNames(parts.join('/'))) expect(name).toMatch(/^(a|home|work)$/);
          } catch (error) {
            expect(error).toMatchObject({ code: 'invalid-path' });
          }
        },
      ),
    );
  });

  it('show rights as ls does', () => {
    expect([0o100644, 0o40755, 0o120777, 0o104755, 0o41777, 0o10600].map(modeText)).toEqual([
      '-rw-r--r--',
      'drwxr-xr-x',
      'lrwxrwxrwx',
      '-rwsr-xr-x',
      'drwxrwxrwt',
      'prw-------',
    ]);
  });
});
