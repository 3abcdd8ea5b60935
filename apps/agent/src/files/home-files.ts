import { randomBytes } from 'node:crypto';
import { closeSync, constants, createReadStream, fchmodSync, fchownSync, renameSync, rmSync } from 'node:fs';
import { type FileHandle, lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { FileEntry, FileListing } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { archiveSize, archiveTooLarge, createArchive } from './archive.ts';
import { homeInKernel, homePathNames, invalidPath } from './home-path.ts';
import { at, openFile, openFolder, pathError } from './safe-open.ts';

const mostEntries = 10_000;

export interface HomeFilesOptions {
  readonly home: string;
  /** A folder on the same file system that the kernel cannot see: uploads grow there. */
  readonly staging: string;
  /** Owner of what is uploaded; null: this process. */
  readonly uid: number | null;
}

/** The files of one kernel, handled from outside while its programs do what they like with them. */
export class HomeFiles {
  readonly #home: string;
  readonly #staging: string;
  readonly #uid: number | null;

  constructor({ home, staging, uid }: HomeFilesOptions) {
    this.#home = home;
    this.#staging = staging;
    this.#uid = uid;
  }

  /** @throws AppError `invalid-path`, `file-not-found`, `payload-too-large` */
  async list(path: string): Promise<FileListing> {
    const names = homePathNames(path);
    const fd = openFolder(this.#home, names);
    try {
      const filenames = await readdir(`/proc/self/fd/${fd}`);
      if (filenames.length > mostEntries) {
        throw new AppError('payload-too-large', `The folder has more than ${mostEntries} entries.`, {
          hint: 'List a folder below it, or download an archive.',
        });
      }
      const entries = await Promise.all(filenames.sort().map((filename) => entryOf(fd, filename)));
      return { abspath: [homeInKernel, ...names].join('/'), files: entries.filter((entry) => entry !== null) };
    } finally {
      closeSync(fd);
    }
  }

  /** @throws AppError `invalid-path`, `file-not-found` */
  size(path: string): number {
    const { fd, stat } = this.#openFile(homePathNames(path));
    closeSync(fd);
    return stat.size;
  }

  /**
   * The bytes of a file, exactly as many as `size` says; the stream fails when the file shrinks meanwhile.
   * @throws AppError `invalid-path`, `file-not-found`
   */
  read(path: string): { readonly size: number; readonly stream: Readable } {
    const { fd, stat } = this.#openFile(homePathNames(path));
    if (stat.size === 0) {
      closeSync(fd);
      return { size: 0, stream: createReadStream('/dev/null') };
    }
    return { size: stat.size, stream: createReadStream('', { fd, start: 0, end: stat.size - 1, autoClose: true }) };
  }

  /**
   * A tar of a file or folder. Links that lead to somewhere in it are kept; other special files are left out.
   * @throws AppError `invalid-path`, `file-not-found`, `payload-too-large`
   */
  async archive(path: string, maxBytes: number): Promise<Readable> {
    const names = homePathNames(path);
    if (maxBytes > 0) {
      const size = await archiveSize(this.#home, names, maxBytes);
      if (size > maxBytes) throw archiveTooLarge(maxBytes);
    }
    return createArchive({ home: this.#home, names, maxBytes, owner: this.#uid });
  }

  /** @throws AppError `invalid-path`, `file-not-found` */
  async checkExists(path: string): Promise<void> {
    await archiveSize(this.#home, homePathNames(path), 0);
  }

  /** Refuses what an upload to `path` would be refused for, as far as that is known now. @throws AppError `invalid-path` */
  checkTarget(path: string): void {
    if (homePathNames(path).length === 0) throw invalidPath(path, 'is the home folder itself');
  }

  /**
   * A new file that takes its place when `commit` is called, and leaves nothing if it never is. Missing folders on the
   * way are made then.
   * @throws AppError `invalid-path`
   */
  async write(path: string, size: number, mode: number): Promise<PendingUpload> {
    this.checkTarget(path);
    const staged = join(this.#staging, `upload-${randomBytes(8).toString('hex')}`);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const file = await open(staged, flags, 0o600).catch((error: unknown) => {
      throw pathError([], error);
    });
    return new PendingUpload(file, staged, size, () => {
      if (this.#uid !== null) fchownSync(file.fd, this.#uid, this.#uid);
      fchmodSync(file.fd, mode);
      this.#place(staged, homePathNames(path));
    });
  }

  #place(staged: string, names: readonly string[]): void {
    const folder = openFolder(this.#home, names.slice(0, -1), { owner: this.#uid });
    try {
      renameSync(staged, at(folder, names.at(-1) ?? ''));
    } catch (error) {
      throw pathError(names, error);
    } finally {
      closeSync(folder);
    }
  }

  #openFile(names: readonly string[]) {
    const name = names.at(-1);
    if (name === undefined) throw invalidPath('.', 'is a folder');
    const folder = openFolder(this.#home, names.slice(0, -1));
    try {
      return openFile(folder, name, names, this.#uid);
    } finally {
      closeSync(folder);
    }
  }
}

/** An upload under way. Exactly one of `commit` and `discard` ends it. */
export class PendingUpload {
  readonly #file: FileHandle;
  readonly #staged: string;
  readonly #size: number;
  readonly #place: () => void;
  #written = 0;

  constructor(file: FileHandle, staged: string, size: number, place: () => void) {
    this.#file = file;
    this.#staged = staged;
    this.#size = size;
    this.#place = place;
  }

  get missing(): number {
    return this.#size - this.#written;
  }

  /** @throws AppError `invalid-input` for more bytes than announced, `disk-full` */
  async write(chunk: Buffer): Promise<void> {
    if (chunk.length > this.missing) throw this.#wrongSize('More');
    try {
      for (let done = 0; done < chunk.length; ) done += (await this.#file.write(chunk, done)).bytesWritten;
    } catch (error) {
      throw pathError([], error);
    }
    this.#written += chunk.length;
  }

  /** @throws AppError `invalid-input` for fewer bytes than announced, `invalid-path` */
  async commit(): Promise<void> {
    try {
      if (this.missing !== 0) throw this.#wrongSize('Fewer');
      this.#place();
    } catch (error) {
      await this.discard();
      throw error;
    }
    await this.#file.close();
  }

  async discard(): Promise<void> {
    rmSync(this.#staged, { force: true });
    await this.#file.close();
  }

  #wrongSize(what: string): AppError {
    return new AppError('invalid-input', `${what} bytes came than the upload announced.`, {
      data: { announced: this.#size, received: this.#written },
    });
  }
}

async function entryOf(folderFd: number, filename: string): Promise<FileEntry | null> {
  const stat = await lstat(at(folderFd, filename)).catch(() => null);
  if (!stat) return null;
  const seconds = (ms: number): number => Math.floor(ms / 1000);
  return {
    filename,
    mode: modeText(stat.mode),
    size: stat.size,
    mtime: seconds(stat.mtimeMs),
    ctime: seconds(stat.ctimeMs),
    atime: seconds(stat.atimeMs),
  };
}

const types: Readonly<Record<number, string>> = {
  [constants.S_IFDIR]: 'd',
  [constants.S_IFLNK]: 'l',
  [constants.S_IFIFO]: 'p',
  [constants.S_IFSOCK]: 's',
  [constants.S_IFBLK]: 'b',
  [constants.S_IFCHR]: 'c',
};

/** As `ls -l` writes it. */
export function modeText(mode: number): string {
  const letters = 'rwxrwxrwx';
  const rights = [...letters].map((letter, index) => (mode & (0o400 >> index) ? letter : '-'));
  const special = [
    [0o4000, 2, 's'],
    [0o2000, 5, 's'],
    [0o1000, 8, 't'],
  ] as const;
  for (const [bit, index, letter] of special) {
    if (mode & bit) rights[index] = rights[index] === 'x' ? letter : letter.toUpperCase();
  }
  return (types[mode & constants.S_IFMT] ?? '-') + rights.join('');
}
