import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { AppError } from '@backend.ai/core';
import { portOwner } from '@backend.ai/runtime';

/** Ports from 32768 on are given to outgoing connections, which may take one between the search and its use. */
const [firstPort, lastPort] = [10_000, 32_767];

function canListen(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/**
 * Whether this process is the one to use a port, until it ends. Told by an abstract socket of Linux: like ports these
 * belong to a network namespace, and they go with their process.
 */
function claim(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'EADDRINUSE'));
    server.listen(`\0backend.ai/port/${port}`, () => {
      server.unref();
      resolve(true);
    });
  });
}

/** A loopback port on which nobody listens now, and that no other call anywhere is given while this process lives. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(firstPort, lastPort + 1);
    if ((await claim(port)) && (await canListen(port))) return port;
  }
}

/** @throws AppError `port-in-use`, naming the process that has it where that can be seen */
export async function requirePort(port: number, purpose: string): Promise<void> {
  if (await canListen(port)) return;
  const owner = await portOwner(port);
  const by = owner ? `process ${owner.pid} (${owner.command})` : 'a process of another user';
  throw new AppError('port-in-use', `Port ${port}, wanted for ${purpose}, is taken by ${by}.`, {
    data: { port, ...owner },
  });
}
