import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { repository } from './command.ts';

const run = promisify(execFile);

/** A copy of the sources of another commit with its commands built, in a folder of its own. */
export interface Build {
  readonly folder: string;
  readonly commit: string;
  remove(): void;
}

/** What services are made of. */
const sources = ['apps', 'packages', 'drizzle', 'package-lock.json'];

/**
 * Which commit came before: `$UPGRADE_FROM` (a tag, a commit), else the parent of the last one that changed what
 * services are made of.
 * @returns undefined when there is none: no repository, its first commit, a clone without history (`git fetch --unshallow`
 * brings it), or a commit that had no separate processes yet
 */
export async function previousCommit(): Promise<string | undefined> {
  const inside = await git('rev-parse', '--show-prefix').catch(() => null);
  // A copy without history inside of somebody else's repository has a prefix.
  if (inside !== '') return undefined;
  const wanted = process.env.UPGRADE_FROM;
  if (wanted) return await git('rev-parse', '--verify', `${wanted}^{commit}`);
  const changed = await git('rev-list', '--first-parent', '--max-count=1', 'HEAD', '--', ...sources);
  const [parent] = (await git('rev-list', '--parents', '--max-count=1', changed)).split(' ').slice(1);
  if (parent === undefined) return undefined;
  const hadProcesses = await git('cat-file', '-e', `${parent}:apps/manager/src/server.ts`).then(
    () => true,
    () => false,
  );
  return hadProcesses ? parent : undefined;
}

/** Needs no network unless the two depend on different packages. */
export async function buildOf(commit: string): Promise<Build> {
  const folder = mkdtempSync(join(tmpdir(), 'backendai-previous-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    const archive = join(folder, 'sources.tar');
    await git('archive', `--output=${archive}`, commit);
    await run('tar', ['-xf', archive, '-C', folder]);
    rmSync(archive);
    if (packagesIn(folder) === packagesIn(repository)) linkPackages(folder);
    else await run('npm', ['ci', '--no-progress', '--no-audit', '--loglevel=error'], { cwd: folder });
    await run('npm', ['run', '--silent', 'bundle', '-w', 'apps/cli'], { cwd: folder });
    return { folder, commit, remove };
  } catch (error) {
    remove();
    throw error;
  }
}

/** The packages of others, by name and version. */
function packagesIn(folder: string): string {
  const { packages } = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version?: string; integrity?: string; link?: boolean }>;
  };
  const others = Object.entries(packages).filter(([path, { link }]) => path.includes('node_modules/') && !link);
  return others.map(([path, { version, integrity }]) => `${path} ${version} ${integrity}`).join('\n');
}

/** Those of others are ours, those of the project its own. */
function linkPackages(folder: string): void {
  const [ours, theirs] = [repository, folder].map((root) => join(root, 'node_modules')) as [string, string];
  mkdirSync(join(theirs, '@backend.ai'), { recursive: true });
  for (const name of readdirSync(ours)) {
    if (name !== '@backend.ai' && name !== '.package-lock.json') symlinkSync(join(ours, name), join(theirs, name));
  }
  for (const parent of ['apps', 'packages']) {
    for (const name of readdirSync(join(folder, parent))) {
      const workspace = join(folder, parent, name);
      const { name: full } = JSON.parse(readFileSync(join(workspace, 'package.json'), 'utf8')) as { name: string };
      symlinkSync(workspace, join(theirs, full));
    }
  }
  // Younger than package-lock.json: run-dev.sh installs again otherwise.
  cpSync(join(ours, '.package-lock.json'), join(theirs, '.package-lock.json'));
}

async function git(...args: string[]): Promise<string> {
  return (await run('git', args, { cwd: repository })).stdout.trim();
}
