import { readdir, readFile, readlink } from 'node:fs/promises';
import { AppError, hasCode } from '@backend.ai/core';

export interface PortOwner {
  readonly pid: number;
  /** Its program; arguments may be secrets. */
  readonly command: string;
}

const listening = '0A';

/** Who listens on a TCP port of this machine; undefined for another user's process, which /proc hides, too. */
export async function portOwner(port: number): Promise<PortOwner | undefined> {
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0');
  const sockets = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    const lines = await readFile(table, 'utf8').then(
      (text) => text.split('\n').slice(1),
      () => [],
    );
    for (const line of lines) {
      const fields = line.trim().split(/\s+/);
      if (fields[1]?.endsWith(`:${hexPort}`) && fields[3] === listening) sockets.add(`socket:[${fields[9]}]`);
    }
  }
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
