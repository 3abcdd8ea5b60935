import { link, lstat, readdir, rm } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { AppError } from '@backend.ai/core';
import type { Listener, SocketFolder } from './socket-lock.ts';
import { listenPrivately, withSocketPath } from './unix-socket.ts';

/** A folder of the file system. Whatever it may not do there is an AppError `config-invalid` that names the owner. */
export function socketFolder(folder: string): SocketFolder {
  return {
    names: () => readdir(folder).catch(deniedBy(folder, folder)),
    ask: (name) => ask(join(folder, name)).catch(deniedBy(join(folder, name), folder)),
    listen: (name) => listen(join(folder, name)).catch(deniedBy(folder, folder)),
    async link(from, to) {
      try {
        await link(join(folder, from), join(folder, to));
        return true;
      } catch (error) {
        if (['EEXIST', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
        throw error;
      }
    },
    remove: (name) => rm(join(folder, name), { force: true }),
  };
}

/** Sockets and folders stay those of whoever made them: as when root ran once what a user runs now. */
const deniedBy =
  (path: string, folder: string) =>
  async (cause: NodeJS.ErrnoException): Promise<never> => {
    if (cause.code !== 'EACCES') throw cause;
    const uid = await lstat(path).then(
      (found) => found.uid,
      () => undefined,
    );
    const owner = uid === undefined ? 'another user' : uid === 0 ? 'root' : `user ${uid}`;
    throw new AppError('config-invalid', `${path} belongs to ${owner}, and you may not use it.`, {
      hint: `Run it as ${owner}, or take it over when nothing of theirs runs on it any more: sudo chown -R ${process.geteuid?.()} ${folder}`,
      cause,
    });
  };

async function ask(path: string): ReturnType<SocketFolder['ask']> {
  const answer = await connect(path);
  // A link that leads nowhere is not on its way out: nobody ever listened there.
  if (answer === 'gone') return (await isLink(path)) ? 'dead' : 'ending';
  return answer;
}

const isLink = (path: string): Promise<boolean> =>
  lstat(path).then(
    (found) => found.isSymbolicLink(),
    () => false,
  );

function connect(path: string): Promise<'listens' | 'dead' | 'ending' | 'gone'> {
  return new Promise((resolve, reject) => {
    const socket = withSocketPath(path, (short) => createConnection(short));
    socket.once('connect', () => {
      socket.destroy();
      resolve('listens');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') resolve('dead');
      // Its owner closes it just now.
      else if (error.code === 'ECONNRESET') resolve('ending');
      // The owner of a newer one has removed it.
      else if (error.code === 'ENOENT') resolve('gone');
      // More are waiting than it has heard.
      else if (error.code === 'EAGAIN') resolve('listens');
      else reject(error);
    });
  });
}

async function listen(path: string): Promise<Listener> {
  const server = createServer((socket) => {
    // Whoever asks has hung up already.
    socket.once('error', () => {});
    socket.destroy();
  });
  await listenPrivately(server, path);
  server.unref();
  return { close: () => new Promise((closed) => server.close(() => closed())) };
}
