import { lstat, readdir, stat } from 'node:fs/promises';
import { basename, isAbsolute, join, normalize, resolve, sep } from 'node:path';
import { AppError } from '@backend.ai/core';

export interface LocalFile {
  readonly file: string;
  /** Where it goes in the session, with forward slashes. */
  readonly target: string;
}

export interface LocalFiles {
  readonly files: readonly LocalFile[];
  /** Symbolic links, sockets and the like met in folders. */
  readonly leftOut: readonly string[];
}

/**
 * The files a user named, folders with everything in them. One below the working directory keeps its relative place,
 * another one goes by its own name. What a user names may be a link; one met in a folder is left out, as it may lead to
 * files nobody meant to send.
 * @throws AppError `file-not-found`
 */
export async function collectFiles(names: readonly string[], cwd: string): Promise<LocalFiles> {
  const files: LocalFile[] = [];
  const leftOut: string[] = [];
  const collect = async (file: string, target: string, look: typeof stat): Promise<void> => {
    const info = await look(file).catch((cause: unknown) => {
      throw new AppError('file-not-found', `The local file ${file} cannot be read.`, {
        hint: 'Check the name and that you may read it.',
        cause,
      });
    });
    if (info.isFile()) files.push({ file, target });
    else if (info.isDirectory()) {
      for (const name of (await readdir(file)).sort()) {
        await collect(join(file, name), target === '.' ? name : `${target}/${name}`, lstat);
      }
    } else leftOut.push(target);
  };
  for (const name of names) {
    const file = resolve(cwd, name);
    const relative = normalize(name).split(sep).join('/').replace(/\/+$/, '');
    const outside = isAbsolute(name) || relative === '..' || relative.startsWith('../');
    await collect(file, outside ? basename(file) : relative, stat);
  }
  return { files, leftOut };
}

export function leftOutLine(target: string): string {
  return `left out: ${target} (from folders only files are sent, no links; name it to send what it leads to)`;
}
