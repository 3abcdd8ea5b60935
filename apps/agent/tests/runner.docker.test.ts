import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it, onTestFinished } from 'vitest';
import { carryPrograms } from '../src/backends/docker/carried-programs.ts';
import { ipythonSuite } from '../src/runner/ipython-suite.test.kit.ts';
import { untilOutput } from '../src/runner/runner.test.kit.ts';
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

/** Its whole suite runs on the machine's, which is the same program. */
it('the Node.js of our image keeps state, tells values and failures, and is interrupted', async () => {
  const interpreter = '/usr/local/bin/node';
  const kernel = await ContainerKernel.start({ image: images.node, language: 'node', interpreter, carried });
  onTestFinished(() => kernel.stop());
  const client = await kernel.connect();
  await kernel.finish(client, 'const x = 41');
  expect((await kernel.finish(client, 'x + 1')).stdout).toBe('42\n');
  expect((await kernel.finish(client, 'undefinedName')).stderr).toContain('ReferenceError');
  await client.execute('loop', { mode: 'query', code: 'console.log("looping"); while (true);' });
  await untilOutput(client, 'loop');
  await client.interrupt();
  expect((await kernel.follow(client, 'loop', 0)).exitCode).toBe(130);
  expect((await kernel.finish(client, 'x + 1')).stdout).toBe('42\n');
});

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
