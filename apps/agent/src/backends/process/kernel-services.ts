import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { AppError } from '@backend.ai/core';
import { at, pathOnly } from '../../files/safe-open.ts';

/**
 * A TCP port of a kernel. Kernels share the machine's network, so a port is the kernel's only if one of its processes
 * listens there: others are refused, or a ticket would open any service of the machine.
 * @throws AppError `state-conflict`
 */
export async function connectToPort(port: number, uid: number | null, pids: () => readonly number[]): Promise<Duplex> {
  const listeners = listenersOn(port);
  const owned =
    uid === null
      ? holdsSocket(pids(), new Set(listeners.map(({ inode }) => inode)))
      : listeners.some((each) => each.uid === uid);
  if (!owned) throw notListening(`port ${port}`);
  const loopback6 = listeners.length > 0 && listeners.every((each) => each.onlyIpv6);
  return await connected(connect({ port, host: loopback6 ? '::1' : '127.0.0.1' }), `port ${port}`);
}

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

function connected(socket: Socket, what: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    socket.once('error', (error) => reject(notListening(what, error)));
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}

function notListening(what: string, cause?: unknown): AppError {
  return new AppError('state-conflict', `Nothing in the session listens on ${what}.`, {
    hint: 'Start the program that serves it, then try again.',
    cause,
  });
}

interface Listener {
  readonly uid: number;
  readonly inode: string;
  readonly onlyIpv6: boolean;
}

function listenersOn(port: number): Listener[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return (['tcp', 'tcp6'] as const).flatMap((table) => {
    let text: string;
    try {
      text = readFileSync(`/proc/net/${table}`, 'latin1');
    } catch {
      return [];
    }
    return text
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter(([, local, , state]) => local?.endsWith(suffix) && state === '0A')
      .map((fields) => ({
        uid: Number(fields[7]),
        inode: fields[9] ?? '',
        // An unspecified IPv6 address usually takes IPv4 too.
        onlyIpv6: table === 'tcp6' && !/^0+:/.test(fields[1] ?? ''),
      }));
  });
}

function holdsSocket(pids: readonly number[], inodes: ReadonlySet<string>): boolean {
  return pids.some((pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => {
        const [, inode] = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? [];
        return inode !== undefined && inodes.has(inode);
      });
    } catch {
      return false;
    }
  });
}
