import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';

const module = new URL('../launcher/lock.cjs', import.meta.url).pathname;
const require = createRequire(import.meta.url);
const { lock } = require(module) as { lock(file: string): Promise<() => void> };

let folder: string;
let file: string;
beforeEach(() => {
  folder = fs.mkdtempSync(join(tmpdir(), 'build-lock-'));
  file = join(folder, 'lock');
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

it('has one holder, and leaves nothing behind', async () => {
  const first = await lock(file);
  let second = false;
  const waiting = lock(file).then((release) => {
    second = true;
    return release;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(second).toBe(false);
  first();
  (await waiting)();
  expect(fs.readdirSync(folder)).toEqual([]);
});

it.each(['999999999', '', 'nonsense', `${process.pid} 1 deadbeef`])('is taken from who is gone: "%s"', async (left) => {
  fs.writeFileSync(file, left);
  (await lock(file))();
  expect(fs.readdirSync(folder)).toEqual([]);
});

it('is not taken away again by another one who found the same dead holder', async () => {
  fs.writeFileSync(file, '999999999');
  const original = fs.rmSync;
  let inner: Promise<() => void> | undefined;
  let holders = 0;
  let most = 0;
  const held = (release: () => void): void => {
    most = Math.max(most, ++holders);
    setImmediate(() => {
      holders -= 1;
      release();
    });
  };
  // The other one comes in the very moment between looking and removing.
  fs.rmSync = (path, options) => {
    if (path === file) {
      fs.rmSync = original;
      inner = lock(file);
    }
    original(path, options);
  };
  try {
    const outer = lock(file);
    void outer.then(held);
    await outer;
    void inner?.then(held);
    await inner;
  } finally {
    fs.rmSync = original;
  }
  expect(inner).toBeDefined();
  expect(most).toBe(1);
});

it('has one holder at a time among many processes, although each third dies with it', async () => {
  const script = `
    const fs = require('node:fs');
    const { lock } = require(${JSON.stringify(module)});
    (async () => {
      for (let i = 0; i < 5; i++) {
        const release = await lock(${JSON.stringify(file)});
        // Fails when somebody else is inside.
        fs.writeFileSync(${JSON.stringify(join(folder, 'inside'))}, '', { flag: 'wx' });
        fs.rmSync(${JSON.stringify(join(folder, 'inside'))});
        if (i === 2 && process.argv[1] % 3 === 0) process.kill(process.pid, 'SIGKILL');
        release();
      }
    })();`;
  const outcomes = await Promise.all(
    Array.from({ length: 12 }, (_, i) =>
      promisify(execFile)(process.execPath, ['-e', script, String(i)]).then(
        () => 'done',
        (error: { signal: string | null; stderr: string }) => error.signal ?? error.stderr,
      ),
    ),
  );
  expect(outcomes.filter((outcome) => outcome === 'done')).toHaveLength(8);
  expect(outcomes.filter((outcome) => outcome === 'SIGKILL')).toHaveLength(4);
  (await lock(file))();
  expect(fs.readdirSync(folder)).toEqual([]);
});
