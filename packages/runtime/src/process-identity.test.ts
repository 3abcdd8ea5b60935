import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';
import { identifyProcess, isProcessAlive } from './process-identity.ts';

it('knows this process, no absent one, and none that has another start time', async () => {
  const self = identifyProcess(process.pid);
  expect(isProcessAlive(self)).toBe(true);
  expect(isProcessAlive({ ...self, startedAt: '1' })).toBe(false);
  expect(isProcessAlive({ pid: 2 ** 30, startedAt: null })).toBe(false);
});

it('takes a process that has ended for ended although its parent does not ask', async () => {
  const parent = spawn('/bin/sh', ['-c', 'sleep 600 & echo $!; exec sleep 600'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(parent.stdout, 'data')) as [Buffer];
  try {
    // A shell would ask.
    await vi.waitFor(() => expect(readFileSync(`/proc/${parent.pid}/comm`, 'utf8')).toBe('sleep\n'));
    const child = identifyProcess(Number(line.toString()));
    expect(isProcessAlive(child)).toBe(true);
    process.kill(child.pid, 'SIGKILL');
    await vi.waitFor(() => expect(isProcessAlive(child)).toBe(false));
    expect(process.kill(child.pid, 0)).toBe(true);
  } finally {
    parent.kill('SIGKILL');
  }
});
