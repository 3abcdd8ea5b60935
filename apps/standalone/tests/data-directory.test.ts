import { chmodSync, lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { tempDirectory } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { Cluster } from '../src/cluster.ts';

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
