import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AdminSocket } from '@backend.ai/runtime';
import { createLogger } from '@backend.ai/telemetry';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { stopCluster } from './cluster-process.ts';
import { type DataDirectory, dataDirectory, makeDataDirectory } from './data-directory.ts';

let directory: DataDirectory;
beforeEach(() => {
  directory = dataDirectory(mkdtempSync(join(tmpdir(), 'cluster-process-')));
  makeDataDirectory(directory);
});
afterEach(() => rmSync(directory.root, { recursive: true }));

it('is content with a cluster process that has ended although its parent does not ask', async () => {
  const parent = spawn('/bin/sh', ['-c', 'sleep 600 & echo $!; exec sleep 600'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(parent.stdout, 'data')) as [Buffer];
  const pid = Number(line.toString());
  const socket = new AdminSocket(
    directory.adminSocket,
    { status: () => ({ pid }), shutdown: () => void process.kill(pid, 'SIGKILL') },
    createLogger({ component: 'test', level: 'error' }),
  );
  await socket.start();
  try {
    expect(await stopCluster(directory, { keepSessions: false, timeoutMs: 5_000 })).toMatchObject({ pid });
  } finally {
    await socket.stop();
    parent.kill('SIGKILL');
  }
});

it('has nothing to stop where no cluster answers', async () => {
  expect(await stopCluster(directory, { keepSessions: true, timeoutMs: 5_000 })).toEqual({
    pid: null,
    sessionsKept: true,
  });
});
