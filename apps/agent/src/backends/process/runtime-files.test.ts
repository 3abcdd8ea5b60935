import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { tempDirectory } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { linkTarget, systemMounts } from './mount-plan.ts';
import { type FoundInterpreter, outermost, runtimeFiles } from './runtime-files.ts';

/** A home with the folder of a cluster in it, and files or links (`name -> target`) of an installation. */
async function homeWith(files: readonly string[]) {
  const home = realpathSync(await tempDirectory());
  for (const file of ['.ssh/id', '.local/share/backend.ai/agent/agent.json', ...files]) {
    const [name = '', target] = file.split(' -> ');
    mkdirSync(dirname(join(home, name)), { recursive: true });
    if (target === undefined) writeFileSync(join(home, name), '');
    else symlinkSync(target, join(home, name));
  }
  const shown = (found: Omit<FoundInterpreter, 'version'> & { readonly version?: string }): string[] =>
    runtimeFiles(
      {
        version: '3.11.2',
        ...found,
        path: join(home, found.path),
        prefixes: found.prefixes.map((prefix) => (prefix.startsWith('/') ? prefix : join(home, prefix))),
      },
      { home, dataDir: join(home, '.local/share/backend.ai/agent') },
    )
      .map((file) => file.replace(`${home}/`, ''))
      .sort();
  return { home, shown };
}

const npm = '../lib/node_modules/npm/bin/npm-cli.js';
const node = (path: string) => ({ language: 'node' as const, path, prefixes: [] });
const python = (path: string, ...prefixes: string[]) => ({ language: 'python' as const, path, prefixes });

describe('the files that kernels see of an interpreter', () => {
  it.each(['.local/bin', 'bin', '.nvm/versions/node/v20/bin'])(
    'are Node.js and its package manager in ~/%s',
    async (bin) => {
      const library = join(dirname(bin), 'lib/node_modules');
      const { shown } = await homeWith([
        `${bin}/node`,
        `${bin}/npm -> ${npm}`,
        `${bin}/deploy`,
        join(library, 'npm/bin/npm-cli.js'),
        join(dirname(bin), 'secret'),
      ]);
      expect(shown(node(join(bin, 'node')))).toEqual([join(bin, 'node'), join(bin, 'npm'), library].sort());
    },
  );

  it('are Node.js alone where it comes without a package manager', async () => {
    const { shown } = await homeWith(['.local/bin/node', '.local/lib/node_modules/mine/index.js']);
    expect(shown(node('.local/bin/node'))).toEqual(['.local/bin/node']);
  });

  it('are a whole installation of Python that has its folder for itself', async () => {
    const { shown } = await homeWith([
      '.pyenv/versions/3.11.2/bin/python3.11',
      '.pyenv/versions/3.11.2/lib/libpython3.so',
    ]);
    const prefix = '.pyenv/versions/3.11.2';
    expect(shown(python(`${prefix}/bin/python3.11`, prefix, prefix))).toEqual([prefix]);
  });

  it('are the parts of Python in a folder that holds other things too', async () => {
    const { shown } = await homeWith([
      'project/.env',
      'project/pyvenv.cfg',
      'project/bin/python3 -> /usr/bin/python3',
      'project/lib/python3.11/site-packages/x.py',
    ]);
    expect(shown(python('project/bin/python3', 'project', '/usr'))).toEqual([
      'project/bin',
      'project/lib',
      'project/pyvenv.cfg',
    ]);
  });

  it.each(['.local', '.'])('are the library and the program of Python in ~/%s', async (prefix) => {
    const { shown } = await homeWith([
      join(prefix, 'bin/python3.11'),
      join(prefix, 'bin/deploy'),
      join(prefix, 'lib/python3.11/os.py'),
      join(prefix, 'lib/libpython3.11.so.1.0'),
      join(prefix, 'lib/private/key'),
    ]);
    expect(shown(python(join(prefix, 'bin/python3.11'), prefix, prefix))).toEqual(
      ['bin/python3.11', 'lib/libpython3.11.so.1.0', 'lib/python3.11'].map((name) => join(prefix, name)).sort(),
    );
  });

  it('are the links on the way to the program, and what they lead to', async () => {
    const real = '.local/share/uv/python/cpython-3.11';
    const { home, shown } = await homeWith([
      `.local/bin/python3.11 -> ../share/uv/python/cpython-3.11/bin/python3.11`,
      `${real}/bin/python3.11`,
      `${real}/lib/python3.11/os.py`,
    ]);
    expect(shown(python('.local/bin/python3.11', real, real))).toEqual(['.local/bin/python3.11', real]);
    const link = join(home, '.local/bin/python3.11');
    expect(systemMounts('/etc', [link])).toContainEqual({ kind: 'link', to: linkTarget(link), target: link });
  });

  it('are never the data directory, nor a folder with it', async () => {
    const { home } = await homeWith(['.venv/pyvenv.cfg', '.venv/lib/python3.11/os.py', '.venv/bin/python3']);
    const venv = join(home, '.venv');
    const found = { ...python(join(venv, 'bin/python3'), venv), version: '3.11.2' };
    const shown = runtimeFiles(found, { home, dataDir: join(venv, 'lib/python3.11/data') });
    expect(shown).toEqual([join(venv, 'bin/python3'), join(venv, 'pyvenv.cfg')]);
  });

  it('are mounted once where one lies in another', () => {
    expect(outermost(['/a/b', '/a', '/a', '/ab'])).toEqual(['/a', '/ab']);
  });
});
