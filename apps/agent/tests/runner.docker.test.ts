import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { carryPrograms } from '../src/backends/docker/carried-programs.ts';
import { ipythonSuite } from '../src/runner/ipython-suite.test.kit.ts';
import { runnerSuite } from '../src/runner/runner-suite.test.kit.ts';
import { terminalSuite } from '../src/runner/terminal-suite.test.kit.ts';
import { ContainerKernel } from './container-kernel.ts';
import { testImages } from './docker-world.ts';

/** The runner's own suites where it really runs: in images that lack what it is written in, and in one that has ipykernel. */

const images = await testImages();
const dataDir = mkdtempSync(join(tmpdir(), 'carried-'));
afterAll(() => rmSync(dataDir, { recursive: true }));
const carried = (await carryPrograms(dataDir))?.folder ?? '';

const shells = [
  { title: 'the ash of an image that is BusyBox and nothing else', image: images.busybox, shell: '/bin/sh' },
  { title: 'the dash of a Debian image', image: images.python, shell: '/bin/dash' },
];
for (const { title, image, shell } of shells) {
  runnerSuite({
    title,
    language: 'shell',
    newKernel: (outputLimitBytes) =>
      ContainerKernel.start({ image, language: 'shell', interpreter: shell, carried, outputLimitBytes }),
    hasMake: false,
  });
}

terminalSuite('a terminal in an image without a program that makes one', () =>
  ContainerKernel.start({ image: images.busybox, language: 'shell', interpreter: '/bin/sh', carried }),
);

ipythonSuite({
  title: 'ipykernel of the Python image',
  newKernel: (modules) =>
    ContainerKernel.start({
      ...{ image: images.python, language: 'python', interpreter: '/usr/bin/python3', carried, modules },
    }),
});
