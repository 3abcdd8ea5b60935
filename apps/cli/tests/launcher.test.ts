import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

/** The launcher in a small repository whose build writes one bundle and counts how often it ran. */

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const exec = promisify(execFile);

const build = `
const fs = require('node:fs');
const { gitHead } = require('./apps/cli/launcher/git-head.cjs');
fs.appendFileSync('builds', 'x');
if (fs.existsSync('broken')) { console.log('src/a.ts(1,1): error TS1005'); process.exit(2); }
fs.mkdirSync('apps/cli/dist', { recursive: true });
fs.writeFileSync('apps/cli/dist/hello.cjs', \`
  const path = require('node:path');
  exports.main = async (argv) => {
    if (argv[1] === 'fail') return 7;
    console.log(['hello', ...argv.slice(1), path.sep === '/', require('./data.json').x].join(' '));
    return 0;
  };\`);
fs.writeFileSync('apps/cli/dist/data.json', '{ "x": 42 }');
fs.writeFileSync('apps/cli/dist/manifest.json', JSON.stringify({
  version: '9.9.9', head: gitHead('.'), bundles: Object.fromEntries(['hello', 'mgr', 'mangle'].map((word) => [word, 'apps/cli/dist/hello.cjs'])), groups: ['group'],
  help: { '': 'ROOT HELP\\n', hello: 'HELLO HELP\\n', group: 'GROUP HELP\\n' },
}));`;

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'launcher-'));
  await cp(join(repository, 'backend.ai'), join(root, 'backend.ai'));
  await cp(join(repository, 'apps/cli/launcher'), join(root, 'apps/cli/launcher'), { recursive: true });
  await mkdir(join(root, 'packages/a'), { recursive: true });
  await writeFile(join(root, 'packages/a/package.json'), '{ "name": "a", "version": "1.0.0" }');
  await writeFile(join(root, 'build.cjs'), build);
  const manifest = {
    name: 'r',
    version: '9.9.9',
    private: true,
    workspaces: ['packages/*'],
    scripts: { build: 'node build.cjs' },
  };
  await writeFile(join(root, 'package.json'), JSON.stringify(manifest));
  await exec('npm', ['install', '--package-lock-only', '--offline', '--silent'], { cwd: root });
  await git('init', '-q');
  await commit();
});
afterEach(() => rm(root, { recursive: true, force: true }));

const git = (...args: string[]) => exec('git', args, { cwd: root });
const commit = () =>
  git('-c', 'user.name=t', '-c', 'user.email=t@example.com', 'commit', '-q', '--allow-empty', '-m', 'x');

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

async function launch(...args: string[]): Promise<Outcome> {
  const env = { ...process.env, BACKEND_SKIP_BUILD: '' };
  return exec(process.execPath, [join(root, 'backend.ai'), ...args], { cwd: tmpdir(), env }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: Outcome) => error,
  );
}
const builds = async (): Promise<number> => (await readFile(join(root, 'builds'), 'utf8').catch(() => '')).length;

describe('the launcher', () => {
  it('shows the version without building anything', async () => {
    expect(await launch('--version')).toMatchObject({ code: 0, stdout: '9.9.9\n', stderr: '' });
    expect(await builds()).toBe(0);
  });

  it('installs, builds and runs on the first command, and only runs on the next', async () => {
    const first = await launch('hello', 'you');
    expect(first).toMatchObject({ code: 0, stdout: 'hello you true 42\n' });
    expect(first.stderr).toMatch(/^Installing packages \.\.\. done in .* s\nBuilding \.\.\. done in .* s\n$/);
    expect(await launch('hello', 'again')).toMatchObject({ stdout: 'hello again true 42\n', stderr: '' });
    expect(await launch('hello', 'fail')).toMatchObject({ code: 7 });
    expect(await builds()).toBe(1);
  });

  it('keeps the compiled form, and makes it anew when it does not fit', async () => {
    await launch('hello');
    const cache = join(root, 'apps/cli/dist/hello.cjs.cache');
    const compiled = await readFile(cache);
    await writeFile(cache, 'not compiled code');
    expect(await launch('hello')).toMatchObject({ code: 0, stderr: '' });
    expect((await readFile(cache)).length).toBeGreaterThan(compiled.length / 2);
  });

  it('builds again after another commit was checked out', async () => {
    await launch('hello');
    await commit();
    expect((await launch('hello')).stderr).toMatch(/^Building \.\.\. done/);
    await git('pack-refs', '--all');
    expect((await launch('hello')).stderr).toBe('');
    expect(await builds()).toBe(2);
  });

  it('is not misled by the date of the lock file', async () => {
    await launch('hello');
    const later = new Date(Date.now() + 60_000);
    await utimes(join(root, 'package-lock.json'), later, later);
    expect((await launch('hello')).stderr).toBe('');
    await rm(join(root, 'node_modules'), { recursive: true });
    expect((await launch('hello')).stderr).toMatch(/^Installing packages/);
  });

  it('builds once when two start together, and takes the lock of a dead process', async () => {
    await mkdir(join(root, '.backend.ai'));
    await writeFile(join(root, '.backend.ai/prepare.lock'), '999999999');
    const outcomes = await Promise.all([launch('hello', '1'), launch('hello', '2')]);
    expect(outcomes.map(({ code }) => code)).toEqual([0, 0]);
    expect(await builds()).toBe(1);
  });

  it('shows the output of a failed build, and what to do', async () => {
    await writeFile(join(root, 'broken'), '');
    const { code, stderr } = await launch('hello');
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /Building \.\.\. failed \(exit code 2\)\.\n\n[\s\S]*error TS1005\n\nError: Building failed\.\n.*npm run build\n$/,
    );
  });

  it('shows help from the texts of the build', async () => {
    await launch('hello');
    await rm(join(root, 'apps/cli/dist/hello.cjs'));
    expect(await launch()).toMatchObject({ code: 0, stdout: 'ROOT HELP\n' });
    expect(await launch('--help')).toMatchObject({ stdout: 'ROOT HELP\n' });
    expect(await launch('help', 'hello')).toMatchObject({ stdout: 'HELLO HELP\n' });
    expect(await launch('hello', '-h')).toMatchObject({ stdout: 'HELLO HELP\n' });
    expect(await builds()).toBe(1);
  });

  it('names a wrong command, and the commands of a group', async () => {
    await launch('hello');
    expect(await launch('hallo')).toMatchObject({ code: 2, stderr: expect.stringContaining('Did you mean: hello?') });
    const { code, stderr } = await launch('manager', 'health');
    expect([code, stderr]).toEqual([2, expect.stringContaining('Did you mean: mgr? See')]);
    expect(await launch('group')).toMatchObject({ code: 2, stderr: 'GROUP HELP\n' });
  });

  it('says in one sentence that Node is too old', async () => {
    const old = join(root, 'old.cjs');
    await writeFile(old, `Object.defineProperty(process, 'versions', { value: { node: '18.20.1' } });`);
    const outcome = await exec(process.execPath, ['-r', old, join(root, 'backend.ai'), 'ps']).catch(
      (error: Outcome) => error,
    );
    expect(outcome).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^Error: Backend.AI needs Node\.js 20\.19 or later/),
    });
  });
});
