import { closeSync, createReadStream } from 'node:fs';
import { lstat, open, opendir, readlink } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AppError, isInnerLink } from '@backend.ai/core';
import { type Pack, pack } from 'tar-stream';
import { at, folderFlags, openFile, openFolder, pathError } from './safe-open.ts';

const blockBytes = 512;
/** Folders within folders; each level holds two descriptors. */
const mostLevels = 200;
/** Names of a folder that are read ahead. */
const namesAhead = 256;

/** How far the walk may be ahead of the reader, in bytes. */
const mostAhead = 64 * 1024;

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
 * Every folder, file and link from `names` on, parents before children, in the order of the file system. Whoever takes a
 * node works on it before asking for the next one: its descriptor is closed then. What vanishes or changes its kind
 * meanwhile is left out. Trees may be large: nothing here holds up the event loop or keeps more than a few names.
 */
async function* walk(home: string, names: readonly string[]): AsyncGenerator<Node, void, undefined> {
  const last = names.at(-1);
  const folder = openFolder(home, names.slice(0, -1));
  try {
    if (last === undefined) yield* walkFolder(folder, '');
    else {
      const stat = await lstat(at(folder, last)).catch((error: unknown) => {
        throw pathError(names, error);
      });
      if (!stat.isFile() && !stat.isDirectory() && !stat.isSymbolicLink()) {
        throw new AppError('invalid-path', `"${names.join('/')}" is neither a file nor a folder.`);
      }
      yield* walkOne(folder, last, last, 0);
    }
  } finally {
    closeSync(folder);
  }
}

async function* walkFolder(fd: number, prefix: string, level = 0): AsyncGenerator<Node, void, undefined> {
  if (level > mostLevels) return;
  for await (const { name } of await opendir(`/proc/self/fd/${fd}`, { bufferSize: namesAhead })) {
    yield* walkOne(fd, name, prefix === '' ? name : `${prefix}/${name}`, level);
  }
}

async function* walkOne(
  folderFd: number,
  filename: string,
  name: string,
  level: number,
): AsyncGenerator<Node, void, undefined> {
  const stat = await lstat(at(folderFd, filename)).catch(() => undefined);
  if (!stat) return;
  const { size, mtime } = stat;
  const node = { name, folderFd, filename, mode: stat.mode & 0o777, mtime };
  if (stat.isFile()) yield { ...node, kind: 'file', size };
  else if (stat.isSymbolicLink()) yield { ...node, kind: 'link', size: 0 };
  else if (stat.isDirectory()) {
    yield { ...node, kind: 'folder', size: 0 };
    const inner = await open(at(folderFd, filename), folderFlags).catch(() => undefined);
    if (!inner) return;
    try {
      yield* walkFolder(inner.fd, name, level + 1);
    } finally {
      await inner.close();
    }
  }
}

/**
 * What the archive would take at least; stops counting above `enough`.
 * @throws AppError `invalid-path`, `file-not-found`
 */
export async function archiveSize(home: string, names: readonly string[], enough: number): Promise<number> {
  let bytes = 2 * blockBytes;
  for await (const node of walk(home, names)) {
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

/**
 * A failure on the way ends the stream without the closing blocks of a tar: a reader notices. The walk waits for a slow
 * reader and ends with one that goes away.
 */
export function createArchive(options: ArchiveOptions): Readable {
  const archive = pack();
  const flow = followFlow(archive);
  fill(archive, flow.room, options).then(
    () => archive.finalize(),
    (error: unknown) => archive.destroy(error as Error),
  );
  return Readable.from(flow.chunks(), { objectMode: false });
}

interface Flow {
  /** Resolves when the reader has taken most of what there is; false when there is no reader any more. */
  room(): Promise<boolean>;
  chunks(): AsyncGenerator<Uint8Array, void, undefined>;
}

/** tar-stream itself waits for its reader within the content of files only: folders and links would pile up. */
function followFlow(archive: Pack): Flow {
  let waiting = 0;
  let read = true;
  let wake = (): void => {};
  const push = archive.push.bind(archive);
  archive.push = (chunk: Uint8Array | null) => {
    waiting += chunk?.length ?? 0;
    return push(chunk);
  };
  return {
    async room() {
      while (read && waiting > mostAhead) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      return read;
    },
    async *chunks() {
      try {
        for await (const chunk of archive as AsyncIterable<Uint8Array>) {
          waiting -= chunk.length;
          wake();
          yield chunk;
        }
      } finally {
        read = false;
        wake();
      }
    },
  };
}

async function fill(archive: Pack, room: Flow['room'], options: ArchiveOptions): Promise<void> {
  const { home, names, maxBytes, owner } = options;
  let bytes = 2 * blockBytes;
  for await (const node of walk(home, names)) {
    if (!(await room())) return;
    const { name, mode, mtime } = node;
    bytes += blockBytes;
    if (node.kind === 'folder') await entry(archive, { name: `${name}/`, mode, mtime, type: 'directory' });
    else if (node.kind === 'link') {
      const linkname = await innerLink(node);
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

/** A link that leads to somewhere in the archive; others would point to somewhere on the reader's machine. */
async function innerLink({ name, folderFd, filename }: Node): Promise<string | null> {
  const target = await readlink(at(folderFd, filename)).catch(() => null);
  return target !== null && isInnerLink(name, target) ? target : null;
}
