import { type ChildProcess, spawn } from 'node:child_process';
import { type FileHandle, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { AppError } from '@backend.ai/core';
import { identifyProcess, isProcessAlive, type ProcessIdentity } from '@backend.ai/runtime';
import { requirePort } from './ports.ts';
import { isListed, isStopped, processTree, signalAll } from './processes.ts';

/** What every `startX` takes. */
export interface DevServerOptions {
  /** Home of this server, made if absent: its data, log and pid file. */
  readonly directory: string;
  /** On loopback; a free one when absent. */
  readonly port?: number | undefined;
  /** Goes on when the process that started it ends, to be found again by its directory. Otherwise it ends with it. */
  readonly survives?: boolean | undefined;
}

export interface ServerSpec {
  readonly name: string;
  readonly directory: string;
  readonly port: number;
  readonly url: string;
  readonly command: readonly [program: string, ...args: string[]];
  /** A folder that it gets open as descriptor 3. */
  readonly openFolder?: string;
  /** Whom it runs as; the present user unless given. */
  readonly account?: { readonly uid: number; readonly gid: number } | undefined;
  readonly environment?: Readonly<Record<string, string>>;
  /** Ends it in order, clients or not. */
  readonly stopSignal: NodeJS.Signals;
  readonly survives: boolean;
  /** Throws until the server does what it is for. */
  readonly probe: () => Promise<void>;
}

const answerDeadlineMs = 60_000;
const stopDeadlineMs = 20_000;
const pollMs = 20;

/**
 * A server process of this machine, started for tests or development: the handle by which tests stop, kill, pause and
 * restart it. Everything is kept in its directory, so that `restart` is on the same port and data.
 */
export class DevServer {
  readonly #spec: ServerSpec;
  #process: ProcessIdentity | undefined;

  private constructor(spec: ServerSpec) {
    this.#spec = spec;
  }

  /** Starts it and waits until it answers; one that already runs in this directory on this port is taken as it is. */
  static async start(spec: ServerSpec): Promise<DevServer> {
    const server = new DevServer(spec);
    const running = await runningIn(spec.directory);
    if (running && running.port !== spec.port) {
      throw new AppError('port-in-use', `${spec.name} of ${spec.directory} runs already, on port ${running.port}.`, {
        hint: `Stop it first: kill ${running.pid}`,
      });
    }
    server.#process = running;
    if (running) await server.#untilAnswering();
    else await server.start();
    return server;
  }

  get name(): string {
    return this.#spec.name;
  }

  get url(): string {
    return this.#spec.url;
  }

  get port(): number {
    return this.#spec.port;
  }

  get directory(): string {
    return this.#spec.directory;
  }

  /** Undefined while it is stopped. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** @throws AppError `port-in-use`; `internal` with the end of its log when it ends or stays silent */
  async start(): Promise<void> {
    const { name, directory, port, survives, command, openFolder, account, environment } = this.#spec;
    await requirePort(port, name);
    const log = await open(join(directory, 'log'), 'a', 0o600);
    const folder = openFolder === undefined ? undefined : await open(openFolder);
    // A server of a test must not outlive it, however it ends: the kernel signals the child when the parent dies.
    const [program, ...args] = survives
      ? command
      : ['setpriv', '--pdeathsig', this.#spec.stopSignal.slice(3), ...command];
    try {
      const child = spawn(program!, args, {
        cwd: '/',
        stdio: ['ignore', log.fd, log.fd, ...(folder ? [folder.fd] : [])],
        detached: survives,
        env: { PATH: process.env.PATH ?? '', LANG: 'C.UTF-8', ...environment },
        ...account,
      });
      this.#process = await started(child);
      if (survives) child.unref();
    } finally {
      await Promise.all([log.close(), folder?.close()]);
    }
    await writePidFile(directory, { ...this.#process, port, stopSignal: this.#spec.stopSignal });
    await this.#untilAnswering();
  }

  /** In order; by force when that takes too long. Safe to call twice. */
  async stop(): Promise<void> {
    await this.resume();
    await this.#end(this.#spec.stopSignal);
  }

  /** As a crash: at once, with all of its processes. */
  kill(): Promise<void> {
    return this.#end('SIGKILL');
  }

  /** Connections stay open, and once this has resolved nothing is answered until `resume`. */
  async pause(): Promise<void> {
    if (!this.#process) return;
    const { pid } = this.#process;
    // A thread on another processor goes on for a moment after the signal, and may have made a process meanwhile.
    for (;;) {
      const tree = await processTree(pid);
      signalAll(tree, 'SIGSTOP');
      const stopped = await Promise.all([...tree, ...(await processTree(pid))].map(isStopped));
      if (stopped.every(Boolean)) return;
      await pause(1);
    }
  }

  async resume(): Promise<void> {
    if (this.#process) signalAll(await processTree(this.#process.pid), 'SIGCONT');
  }

  /** Stopped first if it runs. */
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (!this.#process) return;
    await endProcess(this.#process, signal);
    this.#process = undefined;
    await rm(pidFile(this.#spec.directory), { force: true });
  }

  async #untilAnswering(): Promise<void> {
    const { name, port, probe } = this.#spec;
    const end = performance.now() + answerDeadlineMs;
    for (;;) {
      try {
        return await probe();
      } catch (cause) {
        const ended = !this.#process || !(await isProcessAlive(this.#process));
        if (!ended && performance.now() < end) {
          await pause(pollMs);
          continue;
        }
        const log = await this.#endOfLog();
        await this.kill();
        const what = ended ? `${name} ended at its start` : `${name} does not answer on port ${port}`;
        throw new AppError('internal', `${what}. Its log ends with:\n${log}`, {
          hint: `See the whole log: ${join(this.#spec.directory, 'log')}`,
          cause,
        });
      }
    }
  }

  async #endOfLog(): Promise<string> {
    const text = await readFile(join(this.#spec.directory, 'log'), 'utf8');
    return text.trimEnd().split('\n').slice(-8).join('\n');
  }
}

async function started(child: ChildProcess): Promise<ProcessIdentity> {
  await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
  return await identifyProcess(child.pid!);
}

async function endProcess(running: ProcessIdentity, signal: NodeJS.Signals): Promise<void> {
  if (!(await isProcessAlive(running))) return;
  const tree = await processTree(running.pid);
  signalAll(signal === 'SIGKILL' ? tree : [running.pid], signal);
  const end = performance.now() + stopDeadlineMs;
  while (await isProcessAlive(running)) {
    if (performance.now() > end) signalAll(tree, 'SIGKILL');
    await pause(pollMs);
  }
  // Until somebody asks for its exit code it keeps its id, and a PostgreSQL that starts on its data takes it for alive.
  while (isListed(running.pid) && performance.now() < end) await pause(pollMs);
}

export interface RunningServer extends ProcessIdentity {
  readonly port: number;
  readonly stopSignal: NodeJS.Signals;
}

const pidFile = (directory: string): string => join(directory, 'server.json');

/** The server of a directory, if it runs. */
export async function runningIn(directory: string): Promise<RunningServer | undefined> {
  let record: RunningServer;
  try {
    record = JSON.parse(await readFile(pidFile(directory), 'utf8'));
  } catch {
    return undefined;
  }
  return (await isProcessAlive(record)) ? record : undefined;
}

/** Ends the server of a directory in order; false when none runs. */
export async function stopIn(directory: string): Promise<boolean> {
  const running = await runningIn(directory);
  if (!running) return false;
  signalAll(await processTree(running.pid), 'SIGCONT');
  await endProcess(running, running.stopSignal);
  await rm(pidFile(directory), { force: true });
  return true;
}

async function writePidFile(directory: string, server: RunningServer): Promise<void> {
  const draft = `${pidFile(directory)}.draft`;
  await writeFile(draft, JSON.stringify(server), { mode: 0o600 });
  await rename(draft, pidFile(directory));
}

/** A file only its owner can read, opened so that a server of another user can be handed it. */
export async function writeSecret(path: string, text: string): Promise<FileHandle> {
  const file = await open(path, 'w+', 0o600);
  await file.chmod(0o600);
  await file.writeFile(text);
  return file;
}
