import { expect, it } from 'vitest';
import { effectiveDotfiles } from './effective-dotfiles.ts';

const file = (owner: 'domain' | 'project' | 'keypair', path: string) => ({ owner, path, mode: '644', content: owner });
const kept = (...files: ReturnType<typeof file>[]) =>
  effectiveDotfiles(files).map(({ path, content }) => `${content} ${path}`);

it('files of all owners are kept, in order of their paths', () => {
  expect(kept(file('domain', 'c'), file('keypair', 'b'), file('project', 'a'))).toEqual([
    'project a',
    'keypair b',
    'domain c',
  ]);
});

it('of one path that of the key pair comes before that of the project, and that before that of the domain', () => {
  const [domain, project, keypair] = [file('domain', 'a'), file('project', 'a'), file('keypair', 'a')];
  expect(kept(domain, project, keypair)).toEqual(['keypair a']);
  expect(kept(project, domain)).toEqual(['project a']);
});

it('a file that would have to be a folder for a stronger one is left out, and so is one below a stronger one', () => {
  expect(kept(file('domain', 'a'), file('keypair', 'a/b'), file('project', 'a/b/c'))).toEqual(['keypair a/b']);
  expect(kept(file('domain', 'ab'), file('keypair', 'a'))).toEqual(['keypair a', 'domain ab']);
});

it('what is left out itself is in nobody’s way', () => {
  expect(kept(file('domain', 'x/y'), file('project', 'x'), file('keypair', 'x/z'))).toEqual([
    'domain x/y',
    'keypair x/z',
  ]);
});
