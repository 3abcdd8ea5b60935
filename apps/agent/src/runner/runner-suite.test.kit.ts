/** One behaviour suite for all languages and shells, against real interpreters: of this machine, and in containers. */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RunResult } from './collect-run.ts';
import { type TestKernel, until, untilOutput } from './runner.test.kit.ts';
import type { RunnerClient } from './runner-client.ts';
import { type RunnerLanguage, runnerFiles } from './runner-command.ts';

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
    // It goes on when it was heard: nothing orders what programs write into two pipes at once.
    speak:
      'echo out; until [ -e heard-1 ]; do sleep 0.01; done; echo err >&2; until [ -e heard-2 ]; do sleep 0.01; done; echo out',
    fail: 'ls /does/not/exist; false',
    exitWith3: 'exit 3',
    // No command in it flushes output: an interrupted flush may cost the shell its state (see the busy loop below).
    loop: 'echo looping; while case x in esac; do case x in esac; done',
    ask: 'printf "name? "; read name; echo "got $name"',
    closeOutput: 'exec 1>&-',
    hello: 'echo hello',
    die: 'kill -9 $$',
    printForever: 'head -c 100000000 /dev/zero | tr "\\0" x',
    completed: ['unali', 'unalias'],
    afterLoss: 'echo first; read x; echo second',
  },
};

export interface RunnerSuite {
  readonly title: string;
  readonly language: RunnerLanguage;
  readonly newKernel: (outputLimitBytes?: number) => Promise<TestKernel>;
  /** Tests for which the interpreter is not there. */
  readonly isMissing?: boolean;
  readonly hasMake?: boolean;
}

export function runnerSuite({ title, language, newKernel, isMissing = false, hasMake = true }: RunnerSuite): void {
  let kernel: TestKernel;
  let client: RunnerClient;

  async function start(outputLimitBytes?: number): Promise<void> {
    kernel = await newKernel(outputLimitBytes);
    client = await kernel.connect();
  }

  describe.skipIf(isMissing)(title, () => {
    const code = snippets[language];

    describe('given its interpreter', () => {
      beforeEach(() => start());
      afterEach(() => kernel.stop());

      it('tells what it is', async () => {
        const info = await client.ping();
        expect(info).toMatchObject({ language, version: 1, pid: kernel.pid, current: null });
        expect(Math.abs(info.startedAt - Date.now())).toBeLessThan(60_000);
      });

      it('keeps state between executions and shows the last value', async () => {
        expect(await kernel.finish(client, code.remember)).toMatchObject({ exitCode: 0, stdout: '' });
        expect(await kernel.finish(client, code.recall)).toMatchObject({ exitCode: 0, stdout: '42\n' });
      });

      it('keeps stdout and stderr apart and in order', async () => {
        await client.execute('a', { mode: 'query', code: code.speak });
        for (const pieces of [1, 2]) {
          const heard = () =>
            client
              .journal('a')
              .read(0, 65_536)
              .records.filter(({ t }) => /^std(out|err)$/.test(t));
          await until(`${pieces} pieces`, () => heard().length >= pieces);
          kernel.file(`heard-${pieces}`, '');
        }
        const { items } = await kernel.follow(client, 'a', 0);
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
        await untilOutput(client, 'a');
        expect((await client.ping({ timeoutMs: 10_000 })).current).toBe('a');
        expect(await client.interrupt()).toBe(true);
        expect((await kernel.follow(client, 'a', 0)).exitCode).toBe(130);
        expect(await client.interrupt()).toBe(false);
        expect((await kernel.finish(client, code.recall)).stdout).toBe('42\n');
      });

      it.runIf(language === 'shell')('goes on however often a busy loop is interrupted', async () => {
        for (let round = 0; round < 200; round++) {
          const runId = kernel.nextRunId();
          await client.execute(runId, { mode: 'query', code: 'echo looping; while :; do :; done' });
          await untilOutput(client, runId);
          await client.interrupt();
          expect(await kernel.follow(client, runId, 0)).toMatchObject({ exitCode: 130 });
          expect((await kernel.finish(client, code.hello)).stdout).toBe('hello\n');
        }
      });

      it('runs queued executions one after another and drops an interrupted one', async () => {
        await client.execute('a', { mode: 'query', code: code.loop });
        await client.execute('b', { mode: 'query', code: code.hello });
        await client.execute('c', { mode: 'query', code: code.hello });
        await client.interrupt('b');
        expect((await kernel.follow(client, 'b', 0)).exitCode).toBe(130);
        await untilOutput(client, 'a');
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
        await untilOutput(client, 'a');
        const pending = kernel.follow(client, 'a', 0);
        await kernel.kill();
        expect(await pending).toMatchObject({ status: 'finished', exitCode: 137, stdout: 'looping\n' });
        await expect(client.ping()).rejects.toMatchObject({ code: 'kernel-lost' });
      });

      it('survives a polite request to end', async () => {
        await kernel.ask('SIGTERM');
        await kernel.ask('SIGINT');
        expect((await kernel.finish(client, code.hello)).stdout).toBe('hello\n');
      });

      it('runs clean, build and exec', async () => {
        const batch = { mode: 'batch', clean: 'echo c', build: 'echo b >&2', exec: 'echo e; exit 5' } as const;
        const outcome = await kernel.finish(client, batch);
        expect(outcome.statuses).toEqual(['clean-finished', 'build-finished', 'finished']);
        expect(outcome).toMatchObject({ exitCode: 5, stdout: 'c\ne\n', stderr: 'b\n' });
        expect(await kernel.finish(client, { mode: 'batch', clean: null, build: '' })).toMatchObject({ exitCode: 0 });
      });

      it.skipIf(!hasMake)('takes the default steps from the home folder', async () => {
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

      it.runIf(language === 'shell')(
        'gives programs of a query their input, up to an end that comes early',
        async () => {
          await client.execute('a', { mode: 'query', code: 'sleep 0.1; cat; echo end' });
          await client.input('a', 'one\n', { eof: true });
          expect((await kernel.follow(client, 'a', 0)).stdout).toBe('one\nend\n');
          await client.execute('b', { mode: 'query', code: 'cat; echo end' });
          await client.input('b', '', { eof: true });
          expect((await kernel.follow(client, 'b', 0)).stdout).toBe('end\n');
        },
      );

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
          await untilOutput(client, runId);
          // Debian's sh swallows a signal in the moment of its fork; people press Ctrl-C again, too.
          await until(`end by ${runId}`, async () => {
            await client[runId](runId);
            return (await client.journal(runId).read(0, 65_536)).done;
          });
          expect(await kernel.follow(client, runId, 0)).toMatchObject({ exitCode, stdout: 'up\n' });
        }
      });

      it('does not wait for children that a batch program left behind', async () => {
        const outcome = await kernel.finish(client, { mode: 'batch', exec: 'sleep 600 & echo done' });
        expect(outcome).toMatchObject({ exitCode: 0, stdout: 'done\n' });
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

    describe('given a small output limit', () => {
      beforeEach(() => start(1 << 20));
      afterEach(() => kernel.stop());

      it('drops output past the limit without disturbing the program', async () => {
        const outcome = await kernel.finish(client, code.printForever, 'a');
        expect(outcome).toMatchObject({ exitCode: 0, wasTruncated: true });
        expect(outcome.stdout.length).toBe(1 << 20);
        expect(statSync(join(kernel.run, 'runs', 'a.jsonl')).size).toBeLessThan(2 << 20);
        expect((await kernel.finish(client, code.hello)).stdout).toBe('hello\n');
      });
    });
  });
}

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
