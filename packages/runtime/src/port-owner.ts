import { existsSync, readFileSync } from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { AppError, hasCode } from '@backend.ai/core';

export interface PortOwner {
  readonly pid: number;
  /** Its program; arguments may be secrets. */
  readonly command: string;
}

const listening = '0A';

/** The TCP sockets of this machine that somebody listens on, as `/proc/PID/fd` names them, with their ports. */
export function listeningSockets(): ReadonlyMap<string, number> {
  const sockets = new Map<string, number>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    // A kernel without IPv6 has one of them.
    const lines = existsSync(table) ? readFileSync(table, 'utf8').split('\n').slice(1) : [];
    for (const line of lines) {
      const [, address = '', , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state === listening) sockets.set(`socket:[${inode}]`, Number.parseInt(address.split(':').at(-1) ?? '', 16));
    }
  }
  return sockets;
}

/** Who listens on a TCP port of this machine; undefined for another user's process, which /proc hides, too. */
export async function portOwner(port: number): Promise<PortOwner | undefined> {
  const sockets = new Set([...listeningSockets()].flatMap(([socket, its]) => (its === port ? [socket] : [])));
  if (sockets.size === 0) return undefined;
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)) {
    const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
    for (const descriptor of descriptors) {
      const target = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => '');
      if (!sockets.has(target)) continue;
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      return { pid, command: command.split('\0', 1)[0] || 'its name is hidden' };
    }
  }
  return undefined;
}

/** The same error, with the process that has the port as its next step where that can be seen. */
export async function namingPortOwner(thrown: unknown): Promise<unknown> {
  if (!hasCode(thrown, 'port-in-use') || typeof thrown.data?.port !== 'number') return thrown;
  const owner = await portOwner(thrown.data.port);
  if (!owner) return thrown;
  return new AppError('port-in-use', thrown.message, {
    hint: `Process ${owner.pid} has it (${owner.command}): stop that, or choose another port.`,
    data: { ...thrown.data, ...owner },
    cause: thrown,
  });
}
