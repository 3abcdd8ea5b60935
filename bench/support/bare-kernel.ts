import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { newId } from '@backend.ai/core';
import { RunnerClient, runnerCommand, runnerFiles } from '../../apps/agent/src/runner/index.ts';

export interface BareKernel {
  execute(code: string): Promise<string>;
  end(): Promise<void>;
}

const interpreter = '/usr/bin/python3';

/**
 * The floor under a session: a sandbox, an interpreter and its first answer, started by nothing but `spawn`. The means are
 * those that kernels get (bubblewrap where it is installed, else unshare), without a control group, a user, a file of facts,
 * or anything that remembers it.
 */
export async function startBareKernel(folder: string): Promise<BareKernel> {
  const [run, home] = [join(folder, 'run'), join(folder, 'home')];
  for (const path of [join(run, 'runs'), home]) mkdirSync(path, { recursive: true });
  const runner = runnerFiles();
  const command = runnerCommand('python', interpreter, {
    runnerDirectory: '/opt/backend.ai/runner',
    runDirectory: '/run/kernel',
    homeDirectory: '/home/work',
  });
  const binds = ['/usr', '/bin', '/lib', '/lib64', '/etc'].flatMap((path) => ['--ro-bind-try', path, path]);
  const child = spawn(
    'bwrap',
    [
      ...['--unshare-pid', '--unshare-ipc', '--unshare-uts', ...binds, '--proc', '/proc', '--dev', '/dev'],
      ...['--tmpfs', '/tmp', '--bind', home, '/home/work', '--bind', run, '/run/kernel'],
      ...['--ro-bind', runner, '/opt/backend.ai/runner', '--', ...command],
    ],
    { stdio: 'ignore', detached: true },
  );
  await once(child, 'spawn');
  const client = await RunnerClient.connect({ runDirectory: run, deadlineMs: 10_000 });
  return {
    async execute(code) {
      const runId = newId();
      await client.execute(runId, { mode: 'query', code });
      const { console } = await client.collect(runId, 0, { flushMs: 0 });
      return console.map(([, data]) => String(data)).join('');
    },
    async end() {
      client.close();
      await killed(child);
    },
  };
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  process.kill(-child.pid, 'SIGKILL');
  await once(child, 'exit');
}
