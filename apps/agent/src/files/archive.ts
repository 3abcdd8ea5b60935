import { closeSync, createReadStream, lstatSync, readdirSync, readlinkSync, type Stats } from 'node:fs';
import { posix } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AppError } from '@backend.ai/core';
import { type Pack, pack } from 'tar-stream';
import { at, openFile, openFolder, openFolderAt, pathError } from './safe-open.ts';

const blockBytes = 512;
/** Folders within folders; each level holds one descriptor. */
const mostLevels = 200;

interface Node {
  readonly kind: 'folder' | 'file' | 'link';
  /** In the archive. */
  readonly name: string;
  readonly folderFd: number;
  readonly filename: string;
  readonly size: number;
  readonly mode: number;
  readonly mtime: Date;
}

/**
 * Every folder, file and link from `names` on, parents before children. Whoever takes a node works on it before asking
 * for the next one: its descriptor is closed then. What vanishes or changes its kind meanwhile is left out.
 */
function* walk(home: string, names: readonly string[]): Generator<Node> {
  const last = names.at(-1);
  const folder = openFolder(home, names.slice(0, -1));
  try {
    if (last === undefined) yield* walkFolder(folder, '');
    else {
      let stat: Stats;
      try {
        stat = lstatSync(at(folder, last));
      } catch (error) {
        throw pathError(names, error);
      }
      if (!stat.isFile() && !stat.isDirectory() && !stat.isSymbolicLink()) {
        throw new AppError('invalid-path', `"${names.join('/')}" is neither a file nor a folder.`);
      }
      yield* walkOne(folder, last, last, 0);
    }
  } finally {
    closeSync(folder);
  }
}

function* walkFolder(fd: number, prefix: string, level = 0): Generator<Node> {
  if (level > mostLevels) return;
  for (const filename of readdirSync(`/proc/self/fd/${fd}`).sort()) {
    yield* walkOne(fd, filename, prefix === '' ? filename : `${prefix}/${filename}`, level);
  }
}

function* walkOne(folderFd: number, filename: string, name: string, level: number): Generator<Node> {
  const stat = lstatSync(at(folderFd, filename), { throwIfNoEntry: false });
  if (!stat) return;
  const { size, mtime } = stat;
  const node = { name, folderFd, filename, mode: stat.mode & 0o777, mtime };
  if (stat.isFile()) yield { ...node, kind: 'file', size };
  else if (stat.isSymbolicLink()) yield { ...node, kind: 'link', size: 0 };
  else if (stat.isDirectory()) {
    yield { ...node, kind: 'folder', size: 0 };
    let inner: number;
    try {
      inner = openFolderAt(folderFd, filename);
    } catch {
      return;
    }
    try {
      yield* walkFolder(inner, name, level + 1);
    } finally {
      closeSync(inner);
    }
  }
}

/** What the archive would take at least; stops counting above `enough`. */
export function archiveSize(home: string, names: readonly string[], enough: number): number {
  let bytes = 2 * blockBytes;
  for (const node of walk(home, names)) {
    bytes += blockBytes + paddedSize(node.size);
    if (bytes > enough) break;
  }
  return bytes;
}

export function archiveTooLarge(maxBytes: number): AppError {
  return new AppError('payload-too-large', `The archive would be larger than ${maxBytes} bytes.`, {
    hint: 'Download single files, or a smaller folder.',
    data: { maxBytes },
  });
}

const paddedSize = (size: number): number => Math.ceil(size / blockBytes) * blockBytes;

export interface ArchiveOptions {
  readonly home: string;
  readonly names: readonly string[];
  /** 0: unlimited. */
  readonly maxBytes: number;
  readonly owner: number | null;
}

/** A failure on the way ends the stream without the closing blocks of a tar: a reader notices. */
export function createArchive(options: ArchiveOptions): Readable {
  const archive = pack();
  fill(archive, options).then(
    () => archive.finalize(),
    (error: unknown) => archive.destroy(error as Error),
  );
  // streamx behaves as a Node stream; its types do not say so.
  return Readable.from(archive, { objectMode: false });
}

async function fill(archive: Pack, { home, names, maxBytes, owner }: ArchiveOptions): Promise<void> {
  let bytes = 2 * blockBytes;
  for (const node of walk(home, names)) {
    if (archive.destroyed) return;
    const { name, mode, mtime } = node;
    bytes += blockBytes;
    if (node.kind === 'folder') await entry(archive, { name: `${name}/`, mode, mtime, type: 'directory' });
    else if (node.kind === 'link') {
      const linkname = innerLink(node);
      if (linkname !== null) await entry(archive, { name, mode, mtime, type: 'symlink', linkname });
    } else {
      let file: ReturnType<typeof openFile>;
      try {
        file = openFile(node.folderFd, node.filename, [name], owner);
      } catch {
        continue;
      }
      const { size } = file.stat;
      bytes += paddedSize(size);
      if (maxBytes > 0 && bytes > maxBytes) {
        closeSync(file.fd);
        throw archiveTooLarge(maxBytes);
      }
      const sink = archive.entry({ name, mode, mtime, size, type: 'file' });
      const source =
        size > 0
          ? createReadStream('', { fd: file.fd, start: 0, end: size - 1, autoClose: true })
          : Readable.from([]).on('close', () => closeSync(file.fd));
      await pipeline(source, sink);
    }
  }
}

function entry(archive: Pack, header: Parameters<Pack['entry']>[0]): Promise<void> {
  return new Promise((resolve, reject) => {
    archive.entry(header, (error) => (error ? reject(error) : resolve()));
  });
}

/** A link that stays within the archive; others would point to somewhere on the reader's machine. */
function innerLink(node: Node): string | null {
  let target: string;
  try {
    target = readlinkSync(at(node.folderFd, node.filename));
  } catch {
    return null;
  }
  const end = posix.normalize(posix.join(posix.dirname(node.name), target));
  return target.startsWith('/') || end === '..' || end.startsWith('../') ? null : target;
}
