import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { socketFolder } from './socket-folder.ts';
import { type Listener, type SocketFolder, takeSocketLock } from './socket-lock.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bai-sockets-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const take = (prefix = 'lock', path = folder): Promise<Listener | 'taken'> =>
  takeSocketLock(socketFolder(path), prefix);
const isListener = (taken: Listener | 'taken'): taken is Listener => taken !== 'taken';

/** A folder whose every operation happens when `s` says so. */
function simulatedFolder(s: fc.Scheduler): SocketFolder {
  const files = new Map<string, { listens: boolean }>();
  const at = <T>(name: string, act: () => T): Promise<T> => s.schedule(Promise.resolve(), name).then(act);
  return {
    names: () => at('names', () => [...files.keys()]),
    ask: (name) =>
      at(`ask ${name}`, () => {
        const file = files.get(name);
        if (!file) return 'ending';
        return file.listens ? 'listens' : 'dead';
      }),
    listen: (name) =>
      at('listen', () => {
        const file = { listens: true };
        files.set(name, file);
        return {
          close: async () => {
            file.listens = false;
          },
        };
      }),
    link: (from, to) =>
      at(`link ${to}`, () => {
        const file = files.get(from);
        if (!file || files.has(to)) return false;
        files.set(to, file);
        return true;
      }),
    remove: (name) => at(`remove ${name}`, () => void files.delete(name)),
  };
}

it('never has two owners, in whatever order what starts and ends do happens', async () => {
  let won = 0;
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), fc.integer({ min: 2, max: 4 }), async (s, starters) => {
      const simulated = simulatedFolder(s);
      let owners = 0;
      const contend = async (): Promise<void> => {
        for (let turn = 0; turn < 3; turn++) {
          const taken = await takeSocketLock(simulated, 'lock');
          if (!isListener(taken)) continue;
          won += 1;
          owners += 1;
          expect(owners).toBe(1);
          await s.schedule(Promise.resolve(), 'held');
          owners -= 1;
          await taken.close();
        }
      };
      await s.waitFor(Promise.all(Array.from({ length: starters }, contend)));
    }),
    { numRuns: 2_000 },
  );
  expect(won).toBeGreaterThan(4_000);
}, 120_000);

it('of many that start at once one wins, each time that the winner dies', async () => {
  for (let round = 1; round <= 20; round++) {
    const results = await Promise.all(Array.from({ length: 16 }, () => take()));
    const winners = results.filter(isListener);
    expect(winners).toHaveLength(1);
    expect(await readdir(folder)).toEqual([`lock.${round}.sock`]);
    // What is left of a killed owner: the file of a socket on which nobody listens.
    for (const winner of winners) await winner.close();
  }
});

it('never has two owners in several processes', async () => {
  const module = (name: string): string => JSON.stringify(new URL(name, import.meta.url).pathname);
  const script = `
    import { closeSync, openSync, unlinkSync } from 'node:fs';
    import { socketFolder } from ${module('./socket-folder.ts')};
    import { takeSocketLock } from ${module('./socket-lock.ts')};
    const held = ${JSON.stringify(join(folder, 'held'))};
    for (let won = 0; won < 40; ) {
      const taken = await takeSocketLock(socketFolder(${JSON.stringify(folder)}), 'lock');
      if (taken === 'taken') continue;
      won++;
      closeSync(openSync(held, 'wx'));
      unlinkSync(held);
      await taken.close();
    }`;
  const contenders = Array.from({ length: 3 }, () =>
    spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      stdio: ['ignore', 'ignore', 'inherit'],
    }),
  );
  const codes = await Promise.all(contenders.map(async (contender) => (await once(contender, 'exit'))[0]));
  expect(codes).toEqual([0, 0, 0]);
});

it('sweeps what killed starts have left, and nothing else', async () => {
  await writeFile(join(folder, 'lock.draft-0123456789abcdef.sock'), '');
  await writeFile(join(folder, 'lock.toml'), '');
  const other = await take('other');
  const taken = await take();
  expect((await readdir(folder)).sort()).toEqual(['lock.1.sock', 'lock.toml', 'other.1.sock']);
  for (const server of [taken, other]) if (isListener(server)) await server.close();
});

it('a link that leads nowhere keeps nobody from the lock', async () => {
  await symlink('nowhere', join(folder, 'lock.1.sock'));
  const taken = await take();
  expect(await readdir(folder)).toEqual(['lock.2.sock']);
  if (isListener(taken)) await taken.close();
});

describe('what another user made', () => {
  /** Root is somebody else meanwhile; anybody else is kept out of what is their own. */
  async function asAnother<T>(path: string, work: () => Promise<T>): Promise<T> {
    if (process.geteuid?.() !== 0) await chmod(path, 0);
    else process.seteuid?.(65_534);
    try {
      return await work();
    } finally {
      if (process.getuid?.() === 0) process.seteuid?.(0);
      else await chmod(path, 0o700);
    }
  }
  const owner = process.getuid?.() === 0 ? 'root' : `user ${process.getuid?.()}`;

  it('is refused with its name, its owner and the next step: a socket', async () => {
    const first = await take();
    await chmod(folder, 0o755);
    const socket = join(folder, 'lock.1.sock');
    await expect(asAnother(socket, () => take())).rejects.toMatchObject({
      code: 'config-invalid',
      message: `${socket} belongs to ${owner}, and you may not use it.`,
      hint: expect.stringContaining(` ${folder}`),
    });
    if (isListener(first)) await first.close();
  });

  it('is refused with its name, its owner and the next step: a folder', async () => {
    const message = `${folder} belongs to ${owner}, and you may not use it.`;
    await expect(asAnother(folder, () => take())).rejects.toMatchObject({ code: 'config-invalid', message });
  });
});

it('a folder whose path is longer than an address of a socket is locked as well', async () => {
  const deep = join(folder, 'a'.repeat(100), 'b'.repeat(100));
  await mkdir(deep, { recursive: true });
  const first = await take('lock', deep);
  expect(isListener(first)).toBe(true);
  expect(await take('lock', deep)).toBe('taken');
  if (isListener(first)) await first.close();
  const second = await take('lock', deep);
  expect(isListener(second)).toBe(true);
  if (isListener(second)) await second.close();
});
