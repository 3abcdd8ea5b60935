import { createWriteStream } from 'node:fs';
import { lstat, mkdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { dirname, isAbsolute, join, posix, resolve, sep } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AppError, isInnerLink } from '@backend.ai/core';
import { extract, type Header } from 'tar-stream';

/** A chain of links may be so long; Linux has the same limit. */
const mostLinks = 40;

export interface Unpacked {
  /** The files and links written, relative to the folder. */
  readonly files: readonly string[];
  readonly leftOut: ReadonlyArray<{ readonly name: string; readonly reason: string }>;
}

/**
 * Unpacks a tar that somebody else made. Nothing is written outside `folder`: names that leave it are refused, links that
 * lead out of it are left out, and no entry is written through a link, neither one of the archive nor one that was
 * there. Links are made last, when no file follows them any more. Devices and the like are left out.
 * @throws AppError `invalid-path`
 */
export async function unpack(chunks: AsyncIterable<Uint8Array>, folder: string): Promise<Unpacked> {
  const root = resolve(folder);
  await mkdir(root, { recursive: true });
  const files: string[] = [];
  const leftOut: { readonly name: string; readonly reason: string }[] = [];
  const links: { readonly name: string; readonly target: string }[] = [];
  const archive = extract();
  const fed = pipeline(Readable.from(chunks), archive);
  // Told by the loop, which ends with the same error.
  fed.catch(() => {});
  for await (const entry of archive) {
    const header: Header = entry.header;
    const name = safeName(header.name);
    if (header.type === 'file' || header.type === 'contiguous-file') {
      if (name === '.') throw refusal(header.name);
      await makeFolders(root, posix.dirname(name));
      await writeFile(join(root, name), entry as AsyncIterable<Uint8Array>, header.mode ?? 0o644);
      files.push(name);
      continue;
    }
    if (header.type === 'directory') await makeFolders(root, name);
    else if (header.type === 'symlink') links.push({ name, target: header.linkname ?? '' });
    else leftOut.push({ name, reason: 'neither a file, a folder nor a symbolic link' });
    entry.resume();
  }
  await fed;
  for (const { name, target } of links) {
    if (await leadsOutside(root, name, target)) {
      leftOut.push({ name, reason: `a link that leads out of the folder, to ${target}` });
      continue;
    }
    await makeFolders(root, posix.dirname(name));
    await replace(join(root, name), (partial) => symlink(target, partial));
    files.push(name);
  }
  return { files, leftOut };
}

function refusal(name: string): AppError {
  return new AppError('invalid-path', `The archive was refused: "${name}" would be written outside the folder.`, {
    hint: 'Something in the session made a file of this name; download other paths.',
  });
}

/** Relative, without `.` and `..`. */
function safeName(name: string): string {
  const clean = posix.normalize(name).replace(/\/+$/, '') || '.';
  const leaves = posix.isAbsolute(clean) || isAbsolute(clean) || clean === '..' || clean.startsWith('../');
  if (leaves || clean.includes('\0') || (sep !== '/' && clean.includes(sep))) throw refusal(name);
  return clean;
}

/** A link of the archive, or one that was there and that it leads through, may lead out: others will follow it later. */
async function leadsOutside(root: string, name: string, target: string): Promise<boolean> {
  if (!isInnerLink(name, target) || (sep !== '/' && target.includes(sep))) return true;
  const at = name.split('/').slice(0, -1);
  const rest = target.split('/');
  for (let links = 0; rest.length > 0; ) {
    const part = rest.shift() ?? '';
    if (part === '' || part === '.') continue;
    if (part === '..') {
      if (at.pop() === undefined) return true;
      continue;
    }
    // What is absent or no link leads nowhere else.
    const next = await readlink(join(root, ...at, part)).catch(() => null);
    if (next === null) at.push(part);
    else if (isAbsolute(next) || ++links > mostLinks) return true;
    else rest.unshift(...next.split('/'));
  }
  return false;
}

/** Makes the folders of a name one by one and refuses any that is a link or a file. */
async function makeFolders(root: string, name: string): Promise<void> {
  let at = root;
  for (const part of name === '.' ? [] : name.split('/')) {
    at = join(at, part);
    await mkdir(at).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    if (!(await lstat(at)).isDirectory()) throw refusal(name);
  }
}

async function writeFile(file: string, content: AsyncIterable<Uint8Array>, mode: number): Promise<void> {
  // Never set-user-id, and always readable by the one who downloads.
  const options = { flags: 'wx', mode: (mode & 0o777) | 0o600 };
  await replace(file, (partial) => pipeline(content, createWriteStream(partial, options)));
}

/** A rename replaces a link instead of following it. */
async function replace(file: string, make: (partial: string) => Promise<void>): Promise<void> {
  const partial = join(dirname(file), `.part-${process.pid}-${Date.now()}`);
  try {
    await make(partial);
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}
