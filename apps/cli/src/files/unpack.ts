import { createWriteStream } from 'node:fs';
import { lstat, mkdir, rename, rm, symlink } from 'node:fs/promises';
import { dirname, isAbsolute, join, posix, resolve, sep } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AppError } from '@backend.ai/core';
import { extract, type Header } from 'tar-stream';

/**
 * Unpacks a tar that somebody else made. Nothing is written outside `folder`: names that leave it and links that point
 * out of it are refused, and no entry is written through a link, neither one of the archive nor one that was there.
 * Links are made last, when nothing follows them any more. Devices and the like are left out.
 * @returns the files and links written, relative to `folder`
 * @throws AppError `invalid-path`
 */
export async function unpack(chunks: AsyncIterable<Uint8Array>, folder: string): Promise<string[]> {
  const root = resolve(folder);
  await mkdir(root, { recursive: true });
  const written: string[] = [];
  const links: { readonly name: string; readonly target: string }[] = [];
  const archive = extract();
  const fed = pipeline(Readable.from(chunks), archive);
  // Told by the loop, which ends with the same error.
  fed.catch(() => {});
  for await (const entry of archive) {
    const header: Header = entry.header;
    const name = safeName(header.name);
    if (header.type === 'symlink') {
      links.push({ name, target: safeTarget(name, header.linkname ?? '') });
      entry.resume();
    } else if (header.type === 'directory') {
      await makeFolders(root, name);
      entry.resume();
    } else if (header.type === 'file' || header.type === 'contiguous-file') {
      if (name === '.') throw refusal(header.name);
      await makeFolders(root, posix.dirname(name));
      await writeFile(join(root, name), entry as AsyncIterable<Uint8Array>, header.mode ?? 0o644);
      written.push(name);
    } else {
      // Hard links, devices, pipes.
      entry.resume();
    }
  }
  await fed;
  for (const { name, target } of links) {
    await makeFolders(root, posix.dirname(name));
    await replace(join(root, name), (partial) => symlink(target, partial));
    written.push(name);
  }
  return written;
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

/** Where a link points must lie inside as well: others will follow it later. */
function safeTarget(name: string, target: string): string {
  if (target === '' || posix.isAbsolute(target) || target.includes('\0')) throw refusal(`${name} -> ${target}`);
  safeName(posix.join(posix.dirname(name), target));
  return target;
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
