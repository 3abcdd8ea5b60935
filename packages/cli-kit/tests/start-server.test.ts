import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tempDirectory, waitFor } from '@backend.ai/testing';
import { expect, onTestFinished, test } from 'vitest';

const program = fileURLToPath(new URL('./keeper-program.ts', import.meta.url));

interface Running {
  readonly child: ChildProcess;
  readonly log: string;
  readonly output: () => string;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

async function start(...options: string[]): Promise<Running> {
  const log = join(await tempDirectory(), 'keeper.log');
  const running = { ...(await launch('--set', `logging.file=${log}`, ...options)), log };
  await waitFor(() => running.output().includes('Ready.'));
  return running;
}

/** Its log goes to standard error. */
async function launch(...options: string[]): Promise<Omit<Running, 'log'>> {
  const folder = await tempDirectory();
  const loader = ['--import', import.meta.resolve('tsx'), '--conditions=@backend.ai/source'];
  const argv = [...loader, program, 'keep', 'start-server', ...options];
  const child = spawn(process.execPath, argv, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    // Not `exit`: what it said last may come after that.
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return { child, output: () => output, ended };
}

const records = (file: string): string[] =>
  existsSync(file)
    ? readFileSync(file, 'utf8')
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { msg: string }).msg)
    : [];

test('a server says where it is, drains at SIGTERM, and ends with 0', async () => {
  const { child, log, output, ended } = await start();
  child.kill('SIGTERM');
  expect(await ended).toEqual({ code: 0, signal: null });
  expect(output()).toContain('Backend.AI Keeper 1.2.3\nConfig: configs/keeper.toml (not there');
  expect(output()).toContain('api: http://x\n');
  expect(output()).toContain('Stopping (SIGTERM).\n');
  expect(records(log)).toEqual(['service is ready', 'service is stopping', 'service has stopped']);
});

test('a second signal ends a server that does not stop', async () => {
  const { child, output, ended } = await start('--set', 'keeper.deaf=true');
  child.kill('SIGINT');
  await waitFor(() => output().includes('Stopping (SIGINT).'));
  child.kill('SIGTERM');
  expect(await ended).toEqual({ code: 143, signal: null });
});

test('SIGHUP opens the log file anew and ends nothing', async () => {
  const { child, log, ended } = await start();
  renameSync(log, `${log}.1`);
  child.kill('SIGHUP');
  await waitFor(() => existsSync(log));
  child.kill('SIGUSR2');
  await waitFor(() => records(log).includes('asked'));
  child.kill('SIGTERM');
  expect((await ended).code).toBe(0);
  expect(records(`${log}.1`)).toEqual(['service is ready']);
});

test('an error that nobody caught is in the log before the process ends', async () => {
  const { child, log, ended } = await start();
  child.kill('SIGUSR1');
  expect((await ended).code).toBe(1);
  expect(records(log)).toContain('uncaught error ends the service');
});

test('a server that cannot start says why in a sentence, and where in the program only when nobody foresaw it', async () => {
  const readable = ['--set', 'logging.format=text'];
  const foreseen = await launch('--set', 'keeper.fails=foreseen', ...readable);
  expect((await foreseen.ended).code).toBe(1);
  expect(foreseen.output()).toContain('ERROR keeper service failed code=server-unreachable reason="Nobody keeps."');
  expect(foreseen.output()).toContain('Error: Nobody keeps. [server-unreachable]\n  Wait.');
  const stack = /\n\s+at /;
  expect(foreseen.output()).not.toMatch(stack);
  const unforeseen = await launch('--set', 'keeper.fails=unforeseen', ...readable);
  expect((await unforeseen.ended).code).toBe(1);
  expect(unforeseen.output()).toMatch(stack);
});
