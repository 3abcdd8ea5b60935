import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { Kernel, python } from './runner.test.kit.ts';
import { runnerSuite } from './runner-suite.test.kit.ts';

runnerSuite({
  title: 'a python kernel',
  language: 'python',
  newKernel: async (limit) => new Kernel('python', limit),
  isMissing: python === undefined,
});
runnerSuite({ title: 'a node kernel', language: 'node', newKernel: async (limit) => new Kernel('node', limit) });

/** BusyBox is whichever program it is called as. */
const applets = mkdtempSync(join(tmpdir(), 'busybox-'));
symlinkSync('/bin/busybox', join(applets, 'ash'));
afterAll(() => rmSync(applets, { recursive: true }));

for (const [title, shell] of [
  ['a bash kernel', '/bin/bash'],
  ['a dash kernel', '/bin/dash'],
  ['a BusyBox kernel', join(applets, 'ash')],
] as const) {
  runnerSuite({
    title,
    language: 'shell',
    newKernel: async (limit) => new Kernel('shell', limit, { shell }),
    isMissing: !existsSync(shell),
  });
}
