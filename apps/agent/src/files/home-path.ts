import { AppError } from '@backend.ai/core';

/** Where the home folder stands inside every kernel. */
export const homeInKernel = '/home/work';

/**
 * The names that lead from the home folder to `path`, which may be relative or begin with /home/work.
 * @throws AppError `invalid-path`
 */
export function homePathNames(path: string): string[] {
  if (path.includes('\0')) throw invalidPath(path, 'contains a NUL character');
  let rest = path;
  if (path.startsWith('/')) {
    if (path !== homeInKernel && !path.startsWith(`${homeInKernel}/`))
      throw invalidPath(path, 'is outside the home folder');
    rest = path.slice(homeInKernel.length);
  }
  const names = rest.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..')) throw invalidPath(path, 'contains ".."');
  if (names.length > 128 || names.some((name) => Buffer.byteLength(name) > 255)) throw invalidPath(path, 'is too long');
  return names;
}

export function invalidPath(path: string, why: string, cause?: unknown): AppError {
  return new AppError('invalid-path', `"${path.slice(0, 200)}" ${why}.`, { cause });
}
