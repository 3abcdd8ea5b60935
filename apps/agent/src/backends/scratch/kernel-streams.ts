import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { AppError } from '@backend.ai/core';
import { at, pathOnly } from '../../files/safe-open.ts';

/** `run/<service>.sock`. The user may have put a link there: the very socket that was looked at is the one dialled. */
export async function connectToService(runFolder: string, service: string): Promise<Duplex> {
  let fd: number | undefined;
  let folder: number | undefined;
  try {
    folder = openSync(runFolder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    fd = openSync(at(folder, `${service}.sock`), pathOnly | constants.O_NOFOLLOW);
    if (!fstatSync(fd).isSocket()) throw notListening(service);
    return await connected(connect(`/proc/self/fd/${fd}`), service);
  } catch (error) {
    throw error instanceof AppError ? error : notListening(service, error);
  } finally {
    if (fd !== undefined) closeSync(fd);
    if (folder !== undefined) closeSync(folder);
  }
}

/** @throws AppError `state-conflict` */
export function connected(socket: Socket, what: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    socket.once('error', (error) => reject(notListening(what, error)));
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}

export function notListening(what: string, cause?: unknown): AppError {
  return new AppError('state-conflict', `Nothing in the session listens on ${what}.`, {
    hint: 'Start the program that serves it, then try again.',
    cause,
  });
}
