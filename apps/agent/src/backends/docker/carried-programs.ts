import { createHash } from 'node:crypto';
import {
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { askProgram, findProgram, searchFolders } from '../../files/programs.ts';

/** Programs of this machine that run in any image, whatever that has in it. */
export interface CarriedPrograms {
  /** With the programs, their libraries and the loader `ld.so`. */
  readonly folder: string;
}

/** The words that start one of them where the folder is seen under this name. */
export function carriedCommand(folder: string, program: string): string[] {
  return [`${folder}/ld.so`, '--library-path', folder, `${folder}/${program}`];
}

/**
 * Copies Node.js, as which this agent runs, and `script`, which makes terminals, into a folder of their own: with it the
 * runner of shells needs nothing of an image but the shell. Once per version of them; 100 MB, so only when a kernel needs
 * it. Null where they cannot be taken apart.
 */
export async function carryPrograms(dataDir: string): Promise<CarriedPrograms | null> {
  const script = findProgram('script', searchFolders(''));
  const files = new Map<string, string>([['node', realpathSync(process.execPath)]]);
  if (script !== null) files.set('script', realpathSync(script));
  for (const program of [...files.values()]) {
    const listed = await askProgram('ldd', [program]);
    for (const [name, file] of parseLibraries(listed ?? '')) files.set(name, file);
  }
  if (!files.has('ld.so')) return null;
  const folder = join(dataDir, `programs-${fingerprintOf(files)}`);
  if (!existsSync(folder)) copyAll(files, folder);
  return { folder };
}

/** Removes all copies. No kernel may have one. */
export function sweepCarriedPrograms(dataDir: string): void {
  for (const name of readdirSync(dataDir)) {
    if (name.startsWith('programs-')) rmSync(join(dataDir, name), { recursive: true, force: true });
  }
}

/** What `ldd` lists, by the names under which the loader looks for it; the loader itself as `ld.so`. */
export function parseLibraries(listed: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const line of listed.split('\n')) {
    const [, name = '/', file] = /^\s+(?:(\S+) => )?(\/\S+) \(0x[0-9a-f]+\)$/.exec(line) ?? [];
    // Only the loader goes by its path.
    if (file !== undefined) files.set(name.includes('/') ? 'ld.so' : name, file);
  }
  return files;
}

function copyAll(files: ReadonlyMap<string, string>, folder: string): void {
  const draft = `${folder}.${process.pid}`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { recursive: true });
  for (const [name, file] of files) {
    copyFileSync(file, join(draft, name), constants.COPYFILE_FICLONE);
    chmodSync(join(draft, name), 0o755);
  }
  chmodSync(draft, 0o755);
  renameSync(draft, folder);
}

function fingerprintOf(files: ReadonlyMap<string, string>): string {
  const facts = [...files].sort().map(([name, file]) => {
    const { size, mtimeMs } = statSync(file);
    return [name, size, mtimeMs];
  });
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 12);
}
