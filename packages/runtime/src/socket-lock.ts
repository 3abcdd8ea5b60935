import { randomBytes } from 'node:crypto';

/** What the lock needs of a folder of unix sockets. */
export interface SocketFolder {
  names(): Promise<readonly string[]>;
  /** Whether somebody listens. */
  ask(name: string): Promise<'listens' | 'dead' | 'ending'>;
  /** Makes a socket and listens on it, under whatever name it has later. */
  listen(name: string): Promise<Listener>;
  /** Gives a socket one more name. False when that is taken, or the socket was removed. */
  link(from: string, to: string): Promise<boolean>;
  remove(name: string): Promise<void>;
}

export interface Listener {
  close(): Promise<void>;
}

/**
 * A lock made of unix sockets in a folder: `PREFIX.1.sock`, `PREFIX.2.sock`, …, of which the one with the highest number
 * counts. Its owner listens there, which ends with the process in whatever way that ends: no pid tells it as surely.
 *
 * - Who wants the lock asks the newest socket. If nobody listens, it makes the next one, by linking a socket on which it listens
 *   already: of several that found the same dead one, a single one can.
 * - The newest socket is never removed, not even by its owner, so that numbers only grow. Older ones are removed by the
 *   owner, who may thereby make room for one that looked long ago: that one sees a newer socket afterwards, and gives up.
 *
 * Whoever may not write into the folder can neither take the lock nor keep anybody from taking it.
 *
 * @returns what is closed to release the lock, or `taken`
 */
export async function takeSocketLock(folder: SocketFolder, prefix: string): Promise<Listener | 'taken'> {
  for (;;) {
    const newest = Math.max(0, ...(await socketsOf(folder, prefix)).map(({ number }) => number));
    const answer = newest === 0 ? 'dead' : await folder.ask(socketName(prefix, newest));
    if (answer === 'listens') return 'taken';
    if (answer === 'ending') continue;
    const listener = await claim(folder, prefix, newest + 1);
    if (listener) return listener;
  }
}

const socketName = (prefix: string, number: number): string => `${prefix}.${number}.sock`;

/** A draft, which has no number yet, counts as 0. */
async function socketsOf(folder: SocketFolder, prefix: string): Promise<Array<{ name: string; number: number }>> {
  return (await folder.names()).flatMap((name) => {
    const rest = name.startsWith(`${prefix}.`) ? name.slice(prefix.length + 1) : '';
    const socket = /^(?:(\d+)|draft-[0-9a-f]+)\.sock$/.exec(rest);
    return socket ? [{ name, number: Number(socket[1] ?? 0) }] : [];
  });
}

/** Undefined when somebody else was quicker. */
async function claim(folder: SocketFolder, prefix: string, number: number): Promise<Listener | undefined> {
  const draft = `${prefix}.draft-${randomBytes(8).toString('hex')}.sock`;
  const listener = await folder.listen(draft);
  if (await folder.link(draft, socketName(prefix, number))) {
    const sockets = await socketsOf(folder, prefix);
    if (sockets.every((other) => other.number <= number)) {
      // Drafts of others, too, who then look again.
      for (const { name } of sockets.filter((other) => other.number < number)) await folder.remove(name);
      return listener;
    }
    await folder.remove(socketName(prefix, number));
  }
  await listener.close();
  await folder.remove(draft);
  return undefined;
}
