import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, it, onTestFinished } from 'vitest';

it('who makes a folder at the same time as somebody else has it', async () => {
  const root = await mkdtemp(join(tmpdir(), 'bai-folders-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const [rounds, starters] = [100, 2];
  // They meet before each round, so that they begin in the same moment.
  const script = `
    const { workerData, parentPort } = require('node:worker_threads');
    const met = new Int32Array(workerData);
    (async () => {
      const { tsImport } = await import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))});
      const { makeFolder } = await tsImport('./make-folder.ts', ${JSON.stringify(import.meta.url)});
      const failures = [];
      for (let round = 0; round < ${rounds}; round++) {
        Atomics.add(met, round, 1);
        Atomics.notify(met, round);
        for (let seen; (seen = Atomics.load(met, round)) < ${starters}; ) Atomics.wait(met, round, seen);
        try {
          makeFolder(${JSON.stringify(root)} + '/' + round + '/a/b');
        } catch (error) {
          failures.push(String(error));
        }
      }
      parentPort.postMessage(failures);
    })();`;
  const workerData = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT * rounds);
  const workers = Array.from({ length: starters }, () => new Worker(script, { eval: true, workerData, execArgv: [] }));
  const failures = await Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0]));
  expect(failures).toEqual([[], []]);
});
