import { link, readdir, rm } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import type { Listener, SocketFolder } from './socket-lock.ts';
import { listenPrivately, withSocketPath } from './unix-socket.ts';

/** A folder of the file system. */
export function socketFolder(folder: string): SocketFolder {
  return {
    names: () => readdir(folder),
    ask: (name) => ask(join(folder, name)),
    listen: (name) => listen(join(folder, name)),
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

function ask(path: string): ReturnType<SocketFolder['ask']> {
  return new Promise((resolve, reject) => {
    const socket = withSocketPath(path, (short) => createConnection(short));
    socket.once('connect', () => {
      socket.destroy();
      resolve('listens');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') resolve('dead');
      // Its owner closes it just now, or that of a newer one has removed it.
      else if (error.code === 'ECONNRESET' || error.code === 'ENOENT') resolve('ending');
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
