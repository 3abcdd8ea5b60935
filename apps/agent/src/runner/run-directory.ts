import { closeSync, constants, existsSync, fstatSync, lstatSync, openSync } from 'node:fs';
import { AppError } from '@backend.ai/core';
import { isRunId } from './runner-messages.ts';

/** Linux: a handle on a file itself, also on a socket, without opening it. */
const openPath = 0o10000000;
const throughDescriptors = existsSync('/proc/self/fd');

/**
 * The kernel's `run` folder, seen from the agent. The user may put anything there, links to the host's files included, so
 * every step is taken from a descriptor, follows no link and looks at what it really got.
 */
export class RunDirectory {
  readonly path: string;
  #fd: number | undefined;

  /** @throws AppError `kernel-lost` */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    } catch (cause) {
      throw new AppError('kernel-lost', "The kernel's run folder cannot be opened.", { cause, detail: { path } });
    }
  }

  /**
   * A descriptor of the socket itself, and a path that leads to exactly that socket, of any length of the folder's name.
   * Undefined while there is none. The caller closes the descriptor.
   * @throws AppError `kernel-lost` when it is something else
   */
  openSocket(): { readonly path: string; readonly close: () => void } | undefined {
    const name = this.#inside('runner.sock');
    if (!throughDescriptors) {
      const status = lstatSync(name, { throwIfNoEntry: false });
      if (status && !status.isSocket()) throw this.#strange('runner.sock');
      return status && { path: name, close: () => {} };
    }
    let fd: number;
    try {
      fd = openSync(name, openPath | constants.O_NOFOLLOW);
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw new AppError('kernel-lost', "The kernel's socket cannot be opened.", { cause: error });
    }
    if (!fstatSync(fd).isSocket()) {
      closeSync(fd);
      throw this.#strange('runner.sock');
    }
    return { path: `/proc/self/fd/${fd}`, close: () => closeSync(fd) };
  }

  /**
   * A descriptor for reading, or undefined when the file does not exist. The caller closes it.
   * @throws AppError `kernel-lost` for anything but a regular file with one name
   */
  openJournal(runId: string): number | undefined {
    if (!isRunId(runId)) throw new AppError('invalid-input', 'The id of the execution is not acceptable.');
    let folder: number | undefined;
    let fd: number | undefined;
    try {
      folder = openSync(this.#inside('runs'), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
      const name = throughDescriptors
        ? `/proc/self/fd/${folder}/${runId}.jsonl`
        : `${this.#inside('runs')}/${runId}.jsonl`;
      fd = openSync(name, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw new AppError('kernel-lost', 'The journal of the execution cannot be opened.', { cause: error });
    } finally {
      if (folder !== undefined) closeSync(folder);
    }
    const status = fstatSync(fd);
    if (status.isFile() && status.nlink <= 1) return fd;
    closeSync(fd);
    throw this.#strange(`runs/${runId}.jsonl`);
  }

  /** @throws AppError `shutting-down` after `close` */
  requireOpen(): void {
    if (this.#fd === undefined) throw new AppError('shutting-down', 'The kernel is no longer followed.');
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #inside(name: string): string {
    this.requireOpen();
    return throughDescriptors ? `/proc/self/fd/${this.#fd}/${name}` : `${this.path}/${name}`;
  }

  #strange(name: string): AppError {
    return new AppError('kernel-lost', "A file of the kernel's runner was replaced by something else.", {
      detail: { path: this.path, name },
    });
  }
}

function isAbsent(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
}
