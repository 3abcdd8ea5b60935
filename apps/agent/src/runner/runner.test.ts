/** One behaviour suite for all languages, against real interpreters; then what only some of them do. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { deferred } from '@backend.ai/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KernelExit, RunResult } from './collect-run.ts';
import { type Execution, RunnerClient } from './runner-client.ts';
import { type RunnerLanguage, runnerCommand, runnerFiles } from './runner-command.ts';

const python = findPython();

/** The interpreter itself: a version manager's wrapper would be measured and killed in its place. */
function findPython(): string | undefined {
  try {
    return execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();
  } catch {
    return undefined;
  }
}

interface Snippets {
  readonly remember: string;
  readonly recall: string;
  /** Prints `out` to stdout, `err` to stderr, `out` again, in this order. */
  readonly speak: string;
  readonly fail: string;
  readonly exitWith3: string;
  readonly loop: string;
  readonly ask: string;
  readonly closeOutput: string;
  readonly hello: string;
  readonly die: string;
  readonly printForever: string;
  readonly completed: readonly [code: string, expected: string];
  readonly afterLoss: string;
}

const snippets: Record<RunnerLanguage, Snippets> = {
  python: {
    remember: 'x = 41',
    recall: 'x + 1',
    speak: 'import sys\nprint("out"); print("err", file=sys.stderr); print("out")',
    fail: 'undefined_name',
    exitWith3: 'raise SystemExit(3)',
    loop: 'print("looping")\nwhile True: pass',
    ask: 'print("got", input("name? "))',
    closeOutput: 'import os, sys; sys.stdout.close(); os.close(1)',
    hello: 'print("hello")',
    die: 'import os; os.kill(os.getpid(), 9)',
    printForever: 'print("x" * 100_000_000)',
    completed: ['impo', 'import'],
    afterLoss: 'import time; print("first"); input(); print("second")',
  },
  node: {
    remember: 'const x = 41',
    recall: 'x + 1',
    speak: 'console.log("out"); console.error("err"); console.log("out")',
    fail: 'undefinedName',
    exitWith3: 'process.exit(3)',
    loop: 'console.log("looping"); while (true);',
    ask: 'console.log("got", await input("name? "))',
    closeOutput: 'require("node:fs").closeSync(1)',
    hello: 'console.log("hello")',
    die: 'process.kill(process.pid, "SIGKILL")',
    printForever: 'process.stdout.write("x".repeat(100_000_000)); undefined',
    completed: ['console.lo', 'console.log'],
    afterLoss: 'console.log("first"); await input(); console.log("second")',
  },
  shell: {
    remember: 'x=42; f() { echo "$x"; }',
    recall: 'f',
    // A short pause, because nothing orders what programs write into two pipes at once.
    speak: 'echo out; sleep 0.02; echo err >&2; sleep 0.02; echo out',
    fail: 'ls /does/not/exist; false',
    exitWith3: 'exit 3',
    loop: 'echo looping; while :; do :; done',
    ask: 'printf "name? "; read name; echo "got $name"',
    closeOutput: 'exec 1>&-',
    hello: 'echo hello',
    die: 'kill -9 $$',
    printForever: 'head -c 100000000 /dev/zero | tr "\\0" x',
    completed: ['unali', 'unalias'],
    afterLoss: 'echo first; read x; echo second',
  },
};

class Kernel {
  readonly root = mkdtempSync(join(tmpdir(), 'kernel-'));
  readonly run: string = join(this.root, 'run');
  readonly home: string = join(this.root, 'home');
  readonly clients: RunnerClient[] = [];
  readonly ended = deferred<KernelExit>();
  readonly process: ChildProcess;
  #count = 0;

  constructor(language: RunnerLanguage, outputLimitBytes?: number) {
    mkdirSync(this.run);
    mkdirSync(this.home);
    const interpreter = language === 'node' ? process.execPath : (python ?? '');
    const directories = { runnerDirectory: runnerFiles(), runDirectory: this.run, homeDirectory: this.home };
    const [file = '', ...rest] = runnerCommand(language, interpreter, { ...directories, outputLimitBytes });
    this.process = spawn(file, rest, { stdio: ['ignore', 'inherit', 'inherit'], detached: true });
    this.process.once('exit', (code) => this.ended.resolve({ exitCode: code }));
  }

  async connect(): Promise<RunnerClient> {
    const client = await RunnerClient.connect({
      runDirectory: this.run,
      ended: this.ended.promise,
      deadlineMs: 10_000,
    });
    this.clients.push(client);
    return client;
  }

  file(name: string, content: string): void {
    writeFileSync(join(this.home, name), content);
  }

  /** SIGKILL to the runner, and to its children: here no namespace ends them with it. */
  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exited = once(this.process, 'exit');
    const listed = spawnSync('ps', ['-o', 'pid=', '--ppid', String(this.process.pid)], { encoding: 'utf8' });
    this.process.kill('SIGKILL');
    await exited;
    for (const pid of listed.stdout.split('\n').map(Number)) {
      try {
        if (pid > 1) process.kill(-pid, 'SIGKILL');
      } catch {
        // it has ended
      }
    }
  }

  async stop(): Promise<void> {
    for (const client of this.clients) client.close();
    await this.kill();
    rmSync(this.root, { recursive: true, force: true });
  }

  nextRunId(): string {
    this.#count += 1;
    return `run-${this.#count}`;
  }

  /** Runs to the end, answering no questions. */
  async finish(
    client: RunnerClient,
    execution: Execution | string,
    runId: string = this.nextRunId(),
  ): Promise<Outcome> {
    await client.execute(runId, typeof execution === 'string' ? { mode: 'query', code: execution } : execution);
    return this.follow(client, runId, 0);
  }

  async follow(client: RunnerClient, runId: string, cursor: number): Promise<Outcome> {
    const results: RunResult[] = [];
    let at = cursor;
    for (;;) {
      const result = await client.collect(runId, at, { flushMs: 5, holdMs: 500 });
      results.push(result);
      at = result.cursor;
      if (result.status === 'finished' || result.status === 'waiting-input') break;
    }
    const last = results.at(-1)!;
    const items = results.flatMap((result) => result.console);
    const text = (kind: string): string =>
      items.flatMap((item) => (item[0] === kind ? [String(item[1])] : [])).join('');
    return {
      ...last,
      items,
      statuses: results.map((result) => result.status).filter((status) => status !== 'continued'),
      wasTruncated: results.some((result) => result.truncated),
      stdout: text('stdout'),
      stderr: text('stderr'),
    };
  }
}

interface Outcome extends RunResult {
  readonly items: RunResult['console'];
  readonly statuses: readonly string[];
  readonly wasTruncated: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`waited in vain for: ${what}`);
    await sleep(5);
  }
}

let kernel: Kernel;
let client: RunnerClient;

async function start(language: RunnerLanguage, outputLimitBytes?: number): Promise<void> {
  kernel = new Kernel(language, outputLimitBytes);
  client = await kernel.connect();
}

async function untilOutput(runId: string): Promise<void> {
  await until('output', async () => (await client.journal(runId).waitBeyond(0, { timeoutMs: 50 })) === true);
}

// Without a Python on this machine its runner cannot be tried: node alone remains.
describe.each((['python', 'node', 'shell'] as const).map((language) => ({ language })))(
  'a $language kernel',
  ({ language }) => {
    const code = snippets[language];
    const missing = language !== 'node' && python === undefined;

    describe.skipIf(missing)('given its interpreter', () => {
      beforeEach(() => start(language));
      afterEach(() => kernel.stop());

      it('tells what it is', async () => {
        const info = await client.ping();
        expect(info).toMatchObject({ language, version: 1, pid: kernel.process.pid, current: null });
        expect(Math.abs(info.startedAt - Date.now())).toBeLessThan(60_000);
      });

      it('keeps state between executions and shows the last value', async () => {
        expect(await kernel.finish(client, code.remember)).toMatchObject({ exitCode: 0, stdout: '' });
        expect(await kernel.finish(client, code.recall)).toMatchObject({ exitCode: 0, stdout: '42\n' });
      });

      it('keeps stdout and stderr apart and in order', async () => {
        const { items } = await kernel.finish(client, code.speak);
        expect(merged(items)).toEqual([
          ['stdout', 'out\n'],
          ['stderr', 'err\n'],
          ['stdout', 'out\n'],
        ]);
      });

      it('streams output while the program runs', async () => {
        await client.execute('a', { mode: 'query', code: code.loop });
        const first = await client.collect('a', 0, { flushMs: 20, holdMs: 10_000 });
        expect(first).toMatchObject({ status: 'continued', exitCode: null, console: [['stdout', 'looping\n']] });
      });

      it('reports a failure on stderr and goes on', async () => {
        const failed = await kernel.finish(client, code.fail);
        expect(failed.exitCode).toBe(1);
        expect(failed.stderr).not.toBe('');
        expect(failed.stderr).not.toContain(runnerFiles());
        expect(await kernel.finish(client, code.hello)).toMatchObject({ exitCode: 0, stdout: 'hello\n' });
      });

      it('ends a run with the exit code the program chose', async () => {
        expect((await kernel.finish(client, code.exitWith3)).exitCode).toBe(3);
        expect(await kernel.finish(client, code.hello)).toMatchObject({ exitCode: 0, stdout: 'hello\n' });
      });

      it('asks for input and hands it over', async () => {
        const asked = await kernel.finish(client, code.ask, 'a');
        expect(asked).toMatchObject({ status: 'waiting-input', options: { is_password: false }, stdout: 'name? ' });
        await client.input('a', 'Ada\n');
        expect(await kernel.follow(client, 'a', asked.cursor)).toMatchObject({ exitCode: 0, stdout: 'got Ada\n' });
      });

      it('answers while an endless loop runs, and can interrupt it', async () => {
        await kernel.finish(client, code.remember);
        await client.execute('a', { mode: 'query', code: code.loop });
        await untilOutput('a');
        expect((await client.ping({ timeoutMs: 2000 })).current).toBe('a');
        expect(await client.interrupt()).toBe(true);
        expect((await kernel.follow(client, 'a', 0)).exitCode).toBe(130);
        expect(await client.interrupt()).toBe(false);
        expect((await kernel.finish(client, code.recall)).stdout).toBe('42\n');
      });

      it('runs queued executions one after another and drops an interrupted one', async () => {
        await client.execute('a', { mode: 'query', code: code.loop });
        await client.execute('b', { mode: 'query', code: code.hello });
        await client.execute('c', { mode: 'query', code: code.hello });
        await client.interrupt('b');
        expect((await kernel.follow(client, 'b', 0)).exitCode).toBe(130);
        await untilOutput('a');
        await client.interrupt('a');
        expect(await kernel.follow(client, 'c', 0)).toMatchObject({ exitCode: 0, stdout: 'hello\n', stderr: '' });
      });

      it('completes', async () => {
        await kernel.finish(client, code.hello);
        const [typed, expected] = code.completed;
        expect(await client.complete(typed)).toContain(expected);
      });

      it('runs an execution once, however often it is requested', async () => {
        expect(await client.execute('a', { mode: 'query', code: code.hello })).toEqual({ known: false });
        expect(await client.execute('a', { mode: 'query', code: code.hello })).toEqual({ known: true });
        expect((await kernel.follow(client, 'a', 0)).stdout).toBe('hello\n');
        expect(await client.execute('a', { mode: 'query', code: code.hello })).toEqual({ known: true });
        expect((await kernel.follow(client, 'a', 0)).stdout).toBe('hello\n');
      });

      it('goes on without its agent, and a new one reads the rest', async () => {
        const asked = await kernel.finish(client, code.afterLoss, 'a');
        expect(asked).toMatchObject({ status: 'waiting-input', stdout: 'first\n' });
        client.close();
        client = await kernel.connect();
        await client.input('a', '\n');
        expect((await kernel.follow(client, 'a', asked.cursor)).stdout).toBe('second\n');
        expect((await kernel.follow(client, 'a', 0)).stdout).toBe('first\nsecond\n');
      });

      it('serves a second agent while the first says nothing', async () => {
        const second = await kernel.connect();
        expect((await kernel.finish(second, code.hello)).stdout).toBe('hello\n');
        expect((await kernel.finish(client, code.hello)).stdout).toBe('hello\n');
      });

      it('replaces an interpreter that was killed', async () => {
        expect(await kernel.finish(client, code.die)).toMatchObject({ exitCode: 137 });
        expect((await kernel.finish(client, code.hello)).stdout).toBe('hello\n');
      });

      it('repairs output that the program closed', async () => {
        await kernel.finish(client, code.closeOutput);
        expect((await kernel.finish(client, code.hello)).stdout).toBe('hello\n');
      });

      it('resolves pending collects when the runner is killed', async () => {
        await client.execute('a', { mode: 'query', code: code.loop });
        await untilOutput('a');
        const pending = kernel.follow(client, 'a', 0);
        await kernel.kill();
        expect(await pending).toMatchObject({ status: 'finished', exitCode: 137, stdout: 'looping\n' });
        await expect(client.ping()).rejects.toMatchObject({ code: 'kernel-lost' });
      });

      it('survives a polite request to end', async () => {
        kernel.process.kill('SIGTERM');
        kernel.process.kill('SIGINT');
        expect((await kernel.finish(client, code.hello)).stdout).toBe('hello\n');
      });

      it('runs clean, build and exec', async () => {
        const batch = { mode: 'batch', clean: 'echo c', build: 'echo b >&2', exec: 'echo e; exit 5' } as const;
        const outcome = await kernel.finish(client, batch);
        expect(outcome.statuses).toEqual(['clean-finished', 'build-finished', 'finished']);
        expect(outcome).toMatchObject({ exitCode: 5, stdout: 'c\ne\n', stderr: 'b\n' });
        expect(await kernel.finish(client, { mode: 'batch', clean: null, build: '' })).toMatchObject({ exitCode: 0 });
      });

      it('takes the default steps from the home folder', async () => {
        kernel.file('Makefile', 'all:\n\t@echo built\nclean:\n\t@echo cleaned\n');
        kernel.file('main.py', 'print("main")');
        kernel.file('main.js', 'console.log("main")');
        kernel.file('main.sh', 'echo main');
        const outcome = await kernel.finish(client, { mode: 'batch', clean: '*', build: '*', exec: '*' });
        expect(outcome).toMatchObject({ exitCode: 0, stdout: 'cleaned\nbuilt\nmain\n' });
      });

      it('does not execute what could not be built', async () => {
        const outcome = await kernel.finish(client, { mode: 'batch', build: 'exit 2', exec: 'echo never' });
        expect(outcome).toMatchObject({ exitCode: 127, stdout: '' });
      });

      it("gives input to a batch program's stdin, up to its end", async () => {
        await client.execute('a', { mode: 'batch', exec: 'cat; echo end' });
        await client.input('a', 'one\n');
        await client.input('a', 'two\n', { eof: true });
        expect((await kernel.follow(client, 'a', 0)).stdout).toBe('one\ntwo\nend\n');
      });

      it('tells which signal ended a batch program', async () => {
        await client.execute('a', { mode: 'batch', exec: 'kill -TERM $$' });
        expect((await kernel.follow(client, 'a', 0)).exitCode).toBe(143);
        expect(client.journal('a').read(0, 1000).records.at(-1)).toMatchObject({ t: 'finished', x: 143, s: 'SIGTERM' });
      });

      it('interrupts and kills batch programs with their children', async () => {
        for (const [runId, exitCode] of [
          ['interrupt', 130],
          ['kill', 137],
        ] as const) {
          await client.execute(runId, { mode: 'batch', exec: 'echo up; sleep 60; echo not reached' });
          await untilOutput(runId);
          // Debian's sh swallows a signal in the moment of its fork; people press Ctrl-C again, too.
          await until(`end by ${runId}`, async () => {
            await client[runId](runId);
            return (await client.journal(runId).read(0, 65_536)).done;
          });
          expect(await kernel.follow(client, runId, 0)).toMatchObject({ exitCode, stdout: 'up\n' });
        }
      });

      it('does not wait for children that a batch program left behind', async () => {
        const begun = Date.now();
        const outcome = await kernel.finish(client, { mode: 'batch', exec: 'sleep 30 & echo done' });
        expect(outcome).toMatchObject({ exitCode: 0, stdout: 'done\n' });
        expect(Date.now() - begun).toBeLessThan(5000);
      });

      it('lets programs open /dev/stderr', async () => {
        const outcome = await kernel.finish(client, { mode: 'batch', exec: 'echo hi > /dev/stderr' });
        expect(outcome).toMatchObject({ exitCode: 0, stderr: 'hi\n' });
      });

      it('replaces bytes that are not text and splits long records between characters', async () => {
        kernel.file('bytes', '');
        writeFileSync(join(kernel.home, 'bytes'), Buffer.concat([Buffer.from('a'), Buffer.from([0xff]), emoji]));
        const outcome = await kernel.finish(client, { mode: 'batch', exec: 'cat bytes' });
        expect(outcome.stdout).toBe(`a\ufffd${emoji.toString()}`);
        for (const record of client.journal('run-1').read(0, 8 << 20).records) {
          if (record.t === 'stdout') expect(record.d.length).toBeLessThanOrEqual(65_536);
        }
      });

      it('keeps the journals of the last 32 runs', async () => {
        for (let i = 0; i < 40; i++) await kernel.finish(client, { mode: 'batch' });
        await until('old journals vanish', () => readdirSync(join(kernel.run, 'runs')).length === 32);
        await expect(kernel.follow(client, 'run-1', 0)).rejects.toMatchObject({ code: 'run-not-found' });
      });

      it('refuses what it does not know', async () => {
        await expect(client.input('nobody', 'x')).rejects.toMatchObject({ code: 'run-not-found' });
        await expect(client.execute('../up', { mode: 'batch' })).rejects.toMatchObject({ code: 'invalid-input' });
        await kernel.finish(client, code.hello, 'a');
        await expect(client.input('a', 'x')).rejects.toMatchObject({ code: 'state-conflict' });
      });

      it('writes all output to a console log of bounded size', async () => {
        await kernel.finish(client, { mode: 'batch', exec: 'head -c 3000000 /dev/zero | tr "\\0" x; echo; echo END' });
        expect(readFileSync(join(kernel.run, 'console.log'), 'utf8')).toMatch(/END\n$/);
        expect(statSync(join(kernel.run, 'console.log')).size).toBeLessThanOrEqual(1 << 20);
        expect(statSync(join(kernel.run, 'console.log.1')).size).toBeLessThanOrEqual(1 << 20);
      });
    });

    describe.skipIf(missing)('given a small output limit', () => {
      beforeEach(() => start(language, 1 << 20));
      afterEach(() => kernel.stop());

      it('drops output past the limit without disturbing the program', async () => {
        const outcome = await kernel.finish(client, code.printForever, 'a');
        expect(outcome).toMatchObject({ exitCode: 0, wasTruncated: true });
        expect(outcome.stdout.length).toBe(1 << 20);
        expect(statSync(join(kernel.run, 'runs', 'a.jsonl')).size).toBeLessThan(2 << 20);
        expect((await kernel.finish(client, code.hello)).stdout).toBe('hello\n');
      });
    });
  },
);

const emoji = Buffer.from('\u{1f600}'.repeat(50_000));

function merged(items: RunResult['console']): Array<[string, unknown]> {
  const result: Array<[string, unknown]> = [];
  for (const [kind, data] of items) {
    const last = result.at(-1);
    if (last?.[0] === kind) last[1] = `${last[1]}${data}`;
    else result.push([kind, data]);
  }
  return result;
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
    await untilOutput('a');
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
    await client.execute('a', { mode: 'query', code: snippets.python.loop });
    await untilOutput('a');
    await kernel.kill();
    const directories = { runnerDirectory: runnerFiles(), runDirectory: kernel.run, homeDirectory: kernel.home };
    const [file = '', ...rest] = runnerCommand('python', python ?? '', directories);
    const successor = spawn(file, rest, { stdio: 'ignore' });
    const later = await RunnerClient.connect({ runDirectory: kernel.run, deadlineMs: 10_000 });
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
    await untilOutput('a');
    await client.interrupt();
    expect((await kernel.follow(client, 'a', 0)).exitCode).toBe(130);
    await client.execute('b', { mode: 'query', code: 'console.log(1); await 1; while (true);' });
    await untilOutput('b');
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
