/** What only some languages do, against real interpreters, and what happens before one answers. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Kernel, python, until, untilOutput } from './runner.test.kit.ts';
import { RunnerClient } from './runner-client.ts';
import { type RunnerLanguage, runnerCommand, runnerFiles } from './runner-command.ts';

let kernel: Kernel;
let client: RunnerClient;

async function start(language: RunnerLanguage): Promise<void> {
  kernel = new Kernel(language);
  client = await kernel.connect();
}

describe.skipIf(python === undefined)('a python kernel alone', () => {
  beforeEach(() => start('python'));
  afterEach(() => kernel.stop());

  it("begins a traceback in the user's code and shows its lines", async () => {
    await kernel.finish(client, 'def f():\n    return 1 / 0');
    const { stderr } = await kernel.finish(client, 'f()');
    expect(stderr).toMatch(
      /^Traceback \(most recent call last\):\n {2}File "<input>", line 1, in <module>\n {4}f\(\)\n/,
    );
    expect(stderr).toContain('return 1 / 0');
    expect(stderr).toMatch(/ZeroDivisionError: division by zero\n$/);
    expect((await kernel.finish(client, 'def')).stderr).toContain('SyntaxError');
  });

  it('captures what programs started from it print, in order', async () => {
    const { stdout } = await kernel.finish(client, 'import os\nprint(1)\nos.system("echo 2")\nprint(3)');
    expect(stdout).toBe('1\n2\n3\n');
  });

  it('asks for passwords', async () => {
    const asked = await kernel.finish(client, 'import getpass\ngetpass.getpass("secret: ")', 'a');
    expect(asked).toMatchObject({ status: 'waiting-input', options: { is_password: true }, stdout: 'secret: ' });
    await client.input('a', 'pw');
    expect((await kernel.follow(client, 'a', asked.cursor)).stdout).toBe("'pw'\n");
    const again = await kernel.finish(client, 'input()', 'b');
    await client.input('b', '', { eof: true });
    expect((await kernel.follow(client, 'b', again.cursor)).stderr).toContain('EOFError');
  });

  it('shows pictures and HTML', async () => {
    await kernel.finish(
      client,
      'class P:\n  def _repr_png_(self): return b"png"\nclass H:\n  def _repr_html_(self): return "<b>"',
    );
    expect((await kernel.finish(client, 'print(1)\nP()')).items).toEqual([
      ['stdout', '1\n'],
      ['media', ['image/png', Buffer.from('png').toString('base64')]],
    ]);
    expect((await kernel.finish(client, 'H()')).items).toEqual([['html', '<b>']]);
    const inTurns = await kernel.finish(client, 'for turn in range(100):\n  display(H())\n  print(turn)');
    const turns = Array.from({ length: 100 }, (_, turn) => ['html', '<b>', 'stdout', `${turn}\n`]);
    expect(inTurns.items.flat()).toEqual(turns.flat());
  });

  it('awaits at top level', async () => {
    expect((await kernel.finish(client, 'import asyncio\nawait asyncio.sleep(0, 7)')).stdout).toBe('7\n');
  });

  it('lets background output after the end go to the console log only', async () => {
    await kernel.finish(
      client,
      'import os\nprint("x")\n_ = os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "sleep 0.1; echo late")',
    );
    await until('late output', () => readFileSync(join(kernel.run, 'console.log'), 'utf8').includes('late'));
    expect((await kernel.finish(client, 'print("y")')).stdout).toBe('y\n');
  });

  it('interrupts programs that wait in a child process', async () => {
    await client.execute('a', {
      mode: 'query',
      code: 'import os\nprint("up")\nos.system("sleep 60")\nimport time\ntime.sleep(60)',
    });
    await untilOutput(client, 'a');
    await until('the end', async () => {
      await client.interrupt('a');
      return (await client.ping()).current === null;
    });
    expect((await kernel.follow(client, 'a', 0)).exitCode).toBe(130);
  });

  it('completes attributes', async () => {
    await kernel.finish(client, 'import os');
    expect(await client.complete('x = os.pa')).toContain('os.path');
    expect(await client.complete('os.pa + 1', 5)).toContain('os.path');
  });

  it('reaps the orphans of its programs', async () => {
    await kernel.finish(client, { mode: 'batch', exec: 'exit 0' });
    const children = execFileSync('ps', ['-o', 'stat=', '--ppid', String(kernel.process.pid)], { encoding: 'utf8' });
    expect(children).not.toMatch(/Z/);
  });

  it('is replaced by a new runner in the same folder, which closes the old journals', async () => {
    await client.execute('a', { mode: 'query', code: 'print("looping")\nwhile True: pass' });
    await untilOutput(client, 'a');
    await kernel.kill();
    const directories = { runnerDirectory: runnerFiles(), runDirectory: kernel.run, homeDirectory: kernel.home };
    const [file = '', ...rest] = runnerCommand('python', python ?? '', directories);
    const successor = spawn(file, rest, { stdio: 'ignore' });
    const later = await RunnerClient.connect({ runDirectory: kernel.run, deadlineMs: 60_000 });
    kernel.clients.push(later);
    expect(await kernel.follow(later, 'a', 0)).toMatchObject({ exitCode: 137, stdout: 'looping\n' });
    expect((await kernel.finish(later, '1')).stdout).toBe('1\n');
    successor.kill('SIGKILL');
    await once(successor, 'exit');
  });
});

describe('a node kernel alone', () => {
  beforeEach(() => start('node'));
  afterEach(() => kernel.stop());

  it('lets declarations be repeated and finds modules of the home folder', async () => {
    kernel.file('lib.cjs', 'module.exports = 5');
    kernel.file('lib.mjs', 'export default 6');
    await kernel.finish(client, 'const a = 1');
    expect((await kernel.finish(client, 'const a = require("./lib.cjs"); a')).stdout).toBe('5\n');
    expect((await kernel.finish(client, '(await import("./lib.mjs")).default')).stdout).toBe('6\n');
  });

  it('captures what programs started from it print', async () => {
    const code = 'require("child_process").execSync("echo sub; echo err > /dev/stderr", { stdio: "inherit" }); 0';
    expect(await kernel.finish(client, code)).toMatchObject({ stdout: 'sub\n0\n', stderr: 'err\n' });
  });

  it('interrupts a pending await, and replaces an interpreter that does not react', async () => {
    await client.execute('a', { mode: 'query', code: 'console.log(1); await new Promise(() => {})' });
    await untilOutput(client, 'a');
    await client.interrupt();
    expect((await kernel.follow(client, 'a', 0)).exitCode).toBe(130);
    await client.execute('b', { mode: 'query', code: 'console.log(1); await 1; while (true);' });
    await untilOutput(client, 'b');
    await client.interrupt();
    expect(await kernel.follow(client, 'b', 0)).toMatchObject({ exitCode: 130, stdout: '1\n' });
    expect((await kernel.finish(client, '2')).stdout).toBe('2\n');
  });
});

describe('before a runner answers', () => {
  it('a client waits for the socket only as long as it is told', async () => {
    const run = mkdtempSync(join(tmpdir(), 'kernel-'));
    const options = { runDirectory: run, deadlineMs: 30 };
    await expect(RunnerClient.connect(options)).rejects.toMatchObject({ code: 'deadline-exceeded' });
    const ended = Promise.resolve({ exitCode: 9 });
    await expect(RunnerClient.connect({ ...options, deadlineMs: 60_000, ended })).rejects.toMatchObject({
      code: 'kernel-start-failed',
      data: { exitCode: 9 },
    });
    rmSync(run, { recursive: true });
  });

  it.skipIf(python === undefined)('a client finds a socket whose path is longer than unix allows', async () => {
    const root = join(mkdtempSync(join(tmpdir(), 'kernel-')), 'x'.repeat(120));
    mkdirSync(join(root, 'run'), { recursive: true });
    const directories = { runnerDirectory: runnerFiles(), runDirectory: join(root, 'run'), homeDirectory: root };
    const [file = '', ...rest] = runnerCommand('python', python ?? '', directories);
    const child = spawn(file, rest, { stdio: 'ignore' });
    const found = await RunnerClient.connect({ runDirectory: join(root, 'run'), deadlineMs: 10_000 });
    expect((await found.ping()).language).toBe('python');
    expect(existsSync(join(root, 'run', 'runner.sock'))).toBe(true);
    found.close();
    child.kill('SIGKILL');
    await once(child, 'exit');
    rmSync(root, { recursive: true });
  });
});
