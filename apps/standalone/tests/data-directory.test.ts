import { chmodSync, lstatSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tempDirectory } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Cluster } from '../src/cluster.ts';
import { dataDirectory, makeDataDirectory } from '../src/data-directory.ts';

const asRoot = process.getuid?.() === 0;
const modeOf = (path: string): number => lstatSync(path).mode & 0o777;

it.runIf(asRoot)(
  'the data directory may be passed by unsandboxed programs, and shows them nothing',
  async () => {
    const dataDir = join(await tempDirectory(), 'data');
    // Made by an earlier start, with the modes of that time.
    for (const name of ['keys', 'logs', 'run']) mkdirSync(join(dataDir, name), { recursive: true, mode: 0o755 });
    chmodSync(dataDir, 0o755);
    const cluster = await Cluster.start({
      dataDir,
      port: 0,
      backend: 'process',
      allowUnisolated: true,
      logLevel: 'error',
    });
    onTestFinished(() => cluster.stop({ keepSessions: false }));
    expect(modeOf(dataDir)).toBe(0o711);
    const open = readdirSync(dataDir).filter((name) => (modeOf(join(dataDir, name)) & 0o077) !== 0);
    expect(open).toEqual([]);
  },
  60_000,
);

it('the data directory is closed to others where programs are sandboxed', async () => {
  const dataDir = join(await tempDirectory(), 'data');
  mkdirSync(dataDir, { mode: 0o755 });
  const cluster = await Cluster.start({ dataDir, port: 0, backend: 'fake', logLevel: 'error' });
  onTestFinished(() => cluster.stop({ keepSessions: false }));
  expect(modeOf(dataDir)).toBe(0o700);
}, 60_000);

describe('a data directory', () => {
  const hint = expect.stringContaining('--data-dir') as string;
  const refused = (message: RegExp) =>
    expect.objectContaining({ code: 'config-invalid', message: expect.stringMatching(message) as string, hint });
  const make = (root: string) => () => makeDataDirectory(dataDirectory(root));

  it.each(['database', 'logs', 'thesis.tex'])('is not made of a folder with %s of somebody else', async (name) => {
    const root = join(await tempDirectory(), 'home');
    mkdirSync(join(root, name), { recursive: true });
    chmodSync(root, 0o755);
    expect(make(root)).toThrow(refused(/holds something else/));
    expect([readdirSync(root), modeOf(root)]).toEqual([[name], 0o755]);
  });

  it('is made of an empty folder, and again of what an earlier start left or kept there', async () => {
    const root = join(await tempDirectory(), 'a', 'b');
    mkdirSync(join(root, 'lost+found'), { recursive: true });
    make(root)();
    make(root)();
    writeFileSync(join(root, 'keys', 'manager.pem'), '');
    mkdirSync(join(root, 'database'));
    make(root)();
    expect(modeOf(root)).toBe(0o700);
  });

  it('is refused with the reason where none can be made', async () => {
    const folder = await tempDirectory();
    writeFileSync(join(folder, 'file'), '');
    symlinkSync('nowhere/at/all', join(folder, 'dangling'));
    expect(make(join(folder, 'file'))).toThrow(refused(/it is no folder/));
    expect(make(join(folder, 'file', 'below'))).toThrow(refused(/part of the path is no folder/));
    expect(make(join(folder, 'dangling'))).toThrow(refused(/nothing can be made there/));
    expect(make('/proc/nowhere/at/all')).toThrow(refused(/nothing can be made there/));
  });

  it.skipIf(asRoot)('is refused below a folder that one may not write to', async () => {
    const folder = await tempDirectory();
    chmodSync(folder, 0o500);
    expect(make(join(folder, 'data'))).toThrow(refused(/you may not write there/));
  });
});
