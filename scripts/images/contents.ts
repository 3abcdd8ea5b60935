/** The files of an image as a tar archive, made once and kept. */
import { spawn } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { AppError } from '@backend.ai/core';
import { programPath } from '../dev-servers/programs.ts';
import { debianSources, run } from './machine.ts';
import { contentsFingerprint, type ImageRecipe, type MachineFacts } from './recipes.ts';

const here = dirname(fileURLToPath(import.meta.url));
/** Nobody reads manuals in a session, and nobody unicode-data, which matplotlib brings along. */
const leftOut = ['man', 'doc', 'locale', 'info', 'unicode'].map((name) => `/usr/share/${name}/*`);

export interface ContentsOptions {
  readonly facts: MachineFacts;
  readonly cacheDirectory: string;
  readonly rebuild: boolean;
  readonly tell: (line: string) => void;
}

/** Path of the archive. Earlier ones of the same image are removed. */
export async function imageContents(recipe: ImageRecipe, options: ContentsOptions): Promise<string> {
  const { cacheDirectory, rebuild, facts, tell } = options;
  const archive = join(cacheDirectory, `${recipe.name}-${contentsFingerprint(recipe, facts)}.tar`);
  if (existsSync(archive) && !rebuild) return archive;
  await mkdir(cacheDirectory, { recursive: true });
  const draft = join(cacheDirectory, `.${process.pid}-${basename(archive)}`);
  try {
    await (recipe.packages.length > 0 ? packDebian(recipe, draft, tell) : packBusyBox(draft));
    await rename(draft, archive);
  } finally {
    await rm(draft, { force: true });
  }
  for (const name of await readdir(cacheDirectory)) {
    if (name.startsWith(`${recipe.name}-`) && name !== basename(archive)) await rm(join(cacheDirectory, name));
  }
  return archive;
}

/** Name of the folder with definitions. */
export const serviceFolder = 'service-defs';

/** A folder of its own with `service-defs` in it. */
export async function writeDefinitions({ services = {} }: ImageRecipe): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'backend-services-'));
  await mkdir(join(folder, serviceFolder));
  for (const [name, definition] of Object.entries(services)) {
    await writeFile(join(folder, serviceFolder, `${name}.json`), `${JSON.stringify(definition, null, 2)}\n`);
  }
  return folder;
}

async function packDebian(recipe: ImageRecipe, target: string, tell: (line: string) => void): Promise<void> {
  const options = [
    '--variant=essential',
    '--format=tar',
    `--include=${recipe.packages.join(',')}`,
    ...leftOut.map((path) => `--dpkgopt=path-exclude=${path}`),
    `--customize-hook=${join(here, 'finish.sh')}`,
  ];
  const sources = await debianSources();
  const definitions = await writeDefinitions(recipe);
  const child = spawn(programPath('mmdebstrap')!, [...options, '', target, '-'], {
    stdio: ['pipe', 'ignore', 'pipe'],
    env: {
      ...process.env,
      LC_ALL: 'C.UTF-8',
      NODE: recipe.withNode ? realpathSync(process.execPath) : '',
      SERVICE_DEFS: recipe.services ? join(definitions, serviceFolder) : '',
    },
  });
  const ended = new Promise<number | null>((resolve, reject) => child.once('close', resolve).once('error', reject));
  child.stdin.end(sources);
  const log: string[] = [];
  for await (const line of createInterface(child.stderr)) {
    log.push(line);
    const [, step] = /^I: ((?:downloading|extracting|installing|creating) .*?)\.*$/.exec(line) ?? [];
    if (step) tell(step);
  }
  const code = await ended;
  await rm(definitions, { recursive: true });
  if (code === 0) return;
  throw new AppError('internal', `mmdebstrap failed:\n${log.slice(-15).join('\n')}`, {
    hint: 'Does the package mirror answer? See: apt-get update',
  });
}

async function packBusyBox(target: string): Promise<void> {
  const program = programPath('busybox')!;
  const folder = await mkdtemp(join(tmpdir(), 'backend-image-'));
  try {
    for (const name of ['bin', 'sbin', 'usr/bin', 'usr/sbin', 'etc', 'home/work', 'tmp']) {
      await mkdir(join(folder, name), { recursive: true });
    }
    await copyFile(program, join(folder, 'bin/busybox'));
    const { stdout } = await run(program, ['--list-full']);
    for (const applet of stdout.split('\n').filter((name) => name !== '' && name !== 'bin/busybox')) {
      await symlink('/bin/busybox', join(folder, applet)).catch(ignoreExisting);
    }
    await writeFile(join(folder, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
    await writeFile(join(folder, 'etc/group'), 'root:x:0:\n');
    await run('chmod', ['1777', join(folder, 'tmp')]);
    await run(
      'tar',
      ['--create', '--owner=0', '--group=0', '--numeric-owner', '--sort=name', '--mtime=@0', '--file', target, '.'],
      {
        cwd: folder,
      },
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}
