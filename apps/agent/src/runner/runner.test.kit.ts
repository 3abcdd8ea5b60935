/** A runner and its interpreter as a process, for tests: no agent, no sandbox. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deferred } from '@backend.ai/core';
import { type SmallDisk, waitFor } from '@backend.ai/testing';
import type { KernelExit, RunResult } from './collect-run.ts';
import { type Execution, RunnerClient } from './runner-client.ts';
import { type RunnerLanguage, runnerCommand, runnerFiles } from './runner-command.ts';

/** Of this machine, where it has one. */
export const python: string | undefined = findPython();

/** The interpreter itself: a version manager's wrapper would be measured and killed in its place. */
function findPython(): string | undefined {
  try {
    return execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();
  } catch {
    return undefined;
  }
}

/** A kernel under test: folders of this machine and, somewhere, a runner that has them. */
export abstract class TestKernel {
  readonly root: string;
  readonly run: string;
  readonly home: string;
  readonly clients: RunnerClient[] = [];
  readonly ended = deferred<KernelExit>();
  #count = 0;

  /** @param under Where its folders are made */
  constructor(under: string = tmpdir()) {
    this.root = mkdtempSync(join(under, 'kernel-'));
    this.run = join(this.root, 'run');
    this.home = join(this.root, 'home');
    mkdirSync(this.run);
    mkdirSync(this.home);
  }

  /** What its runner says of itself: a number, or one that a matcher knows. */
  abstract readonly pid: unknown;
  /** A signal to the runner alone. */
  abstract ask(signal: 'SIGTERM' | 'SIGINT'): Promise<void>;
  /** SIGKILL to all of it. */
  abstract kill(): Promise<void>;

  async connect(): Promise<RunnerClient> {
    const client = await RunnerClient.connect({
      runDirectory: this.run,
      ended: this.ended.promise,
      deadlineMs: 60_000,
    });
    this.clients.push(client);
    return client;
  }

  file(name: string, content: string): void {
    writeFileSync(join(this.home, name), content);
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

/** A runner as a process of this machine. */
export class Kernel extends TestKernel {
  readonly process: ChildProcess;

  constructor(
    language: RunnerLanguage,
    outputLimitBytes?: number,
    options: {
      readonly path?: string;
      readonly interpreter?: 'auto' | 'builtin';
      readonly shell?: string;
      readonly env?: NodeJS.ProcessEnv;
      readonly isWarm?: boolean;
      readonly disk?: SmallDisk;
    } = {},
  ) {
    const { disk } = options;
    super(disk?.path);
    const interpreter = options.path ?? (language === 'python' ? (python ?? '') : process.execPath);
    const seen = (path: string): string => (disk ? path.replace(disk.path, disk.inside) : path);
    const directories = {
      ...{ runnerDirectory: runnerFiles(), runDirectory: seen(this.run), homeDirectory: seen(this.home) },
    };
    const command = runnerCommand(language, interpreter, {
      ...directories,
      outputLimitBytes,
      ...(language === 'python' ? { interpreter: options.interpreter ?? 'builtin' } : {}),
      shell: options.shell,
      isWarm: options.isWarm,
    });
    const [file = '', ...rest] = [...(disk?.enter ?? []), ...command];
    this.process = spawn(file, rest, {
      stdio: ['ignore', 'inherit', 'inherit'],
      detached: true,
      // Its shells read the start-up files of its own home, not those of who runs the tests.
      env: { ...process.env, HOME: seen(this.home), ...options.env },
    });
    this.process.once('exit', (code) => this.ended.resolve({ exitCode: code }));
  }

  get pid(): number | undefined {
    return this.process.pid;
  }

  async ask(signal: 'SIGTERM' | 'SIGINT'): Promise<void> {
    this.process.kill(signal);
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
}

export interface Outcome extends RunResult {
  readonly items: RunResult['console'];
  readonly statuses: readonly string[];
  readonly wasTruncated: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  await waitFor(holds, { what });
}

export async function untilOutput(client: RunnerClient, runId: string): Promise<void> {
  await until('output', async () => (await client.journal(runId).waitBeyond(0, { timeoutMs: 50 })) === true);
}
