import { readdir, stat } from 'node:fs/promises';
import { basename, isAbsolute, join, normalize, resolve, sep } from 'node:path';
import { AppError } from '@backend.ai/core';

export interface LocalFile {
  readonly file: string;
  /** Where it goes in the session, with forward slashes. */
  readonly target: string;
}

/**
 * The files a user named, folders with everything in them. One below the working directory keeps its relative place,
 * another one goes by its own name.
 * @throws AppError `file-not-found`
 */
export async function collectFiles(names: readonly string[], cwd: string): Promise<LocalFile[]> {
  const found: LocalFile[] = [];
  for (const name of names) {
    const file = resolve(cwd, name);
    const relative = normalize(name).split(sep).join('/').replace(/\/+$/, '');
    const outside = isAbsolute(name) || relative === '..' || relative.startsWith('../');
    await collect(file, outside ? basename(file) : relative, found);
  }
  return found;
}

async function collect(file: string, target: string, found: LocalFile[]): Promise<void> {
  const info = await stat(file).catch((cause: unknown) => {
    throw new AppError('file-not-found', `The local file ${file} cannot be read.`, {
      hint: 'Check the name and that you may read it.',
      cause,
    });
  });
  if (info.isDirectory()) {
    for (const name of (await readdir(file)).sort()) {
      await collect(join(file, name), target === '.' ? name : `${target}/${name}`, found);
    }
  } else if (info.isFile()) {
    found.push({ file, target });
  }
}
