import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '@backend.ai/core';
import { collectLogs } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { identify, ProcessTable } from '../../resources/processes.ts';
import { scratchPaths } from '../scratch/scratch.ts';
import { ProcessKernel, type ProcessKernelOptions } from './process-kernel.ts';

it('whoever measures a kernel finds its processes in the table of the moment, which kernels share', async () => {
  const root = mkdtempSync(join(tmpdir(), 'process-kernel-'));
  const child = spawn('sleep', ['600'], { stdio: 'ignore' });
  const paths = scratchPaths(root, 'kernel');
  mkdirSync(paths.folder);
  const monitor = identify(child.pid ?? 0);
  const table = new ProcessTable();
  let asked = 0;
  const recentProcesses = {
    get: () => {
      asked += 1;
      return table;
    },
  };
  const processes = { monitor, init: null, cgroups: [], label: 'BACKEND_KERNEL=nobody', uid: null };
  const { logger } = collectLogs('agent');
  const kernel = new ProcessKernel({
    ...{ paths, processes, child, recentProcesses, services: [], paused: false, clock: systemClock, logger },
    isolation: { sandbox: 'bubblewrap' },
  } as unknown as ProcessKernelOptions);
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await kernel.ended;
    rmSync(root, { recursive: true });
  });
  expect(kernel.pids()).toEqual([child.pid]);
  expect(asked).toBe(1);
});
