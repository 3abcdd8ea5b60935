/**
 * The agent's end of the socket of one kernel's runner.
 *
 * Losing the connection loses nothing: the runner goes on, this client dials again, and journals are read from cursors.
 * A request that was under way fails with `connection-lost`; `execute` may simply be repeated with the same run id.
 */
import { connect, type Socket } from 'node:net';
import type { TerminalOptions } from '@backend.ai/contract';
import { AppError, type Clock, type Deferred, deferred, delay, hasCode, systemClock } from '@backend.ai/core';
import { readHead } from '@backend.ai/rpc';
import { BackgroundTasks, type Logger, silentLogger } from '@backend.ai/telemetry';
import { type CollectOptions, collectRun, type KernelExit, type RunResult } from './collect-run.ts';
import { LineSplitter } from './line-splitter.ts';
import { RunDirectory } from './run-directory.ts';
import { RunJournal } from './run-journal.ts';
import {
  isRunId,
  lineLimitBytes,
  type ProgramState,
  parseCompletions,
  parseEvent,
  parseInfo,
  parseObject,
  parseProgram,
  parseReply,
  parseTexts,
  type RunEvent,
  type RunnerInfo,
  type RunnerReply,
  type RunRecord,
  refusals,
} from './runner-messages.ts';

export interface RunnerClientOptions {
  /** The kernel's `run` folder as the agent sees it. */
  readonly runDirectory: string;
  /** Settles when the kernel has ended: pending calls end then, instead of waiting for a runner that is gone. */
  readonly ended?: Promise<KernelExit> | undefined;
  /** For each request, unless it says otherwise; 10 s by default. */
  readonly requestTimeoutMs?: number | undefined;
  readonly logger?: Logger | undefined;
  readonly clock?: Clock | undefined;
}

export interface ConnectOptions {
  /** How long to wait for the runner's first answer. */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface RequestOptions {
  readonly timeoutMs?: number | undefined;
}

/** What to run; '' and null skip a batch step, '*' means its default. */
export type Execution =
  | { readonly mode: 'query'; readonly code: string }
  | {
      readonly mode: 'batch';
      readonly clean?: string | null | undefined;
      readonly build?: string | null | undefined;
      readonly exec?: string | null | undefined;
      /** False: what the build prints goes to the log of the kernel only. */
      readonly buildLog?: boolean | undefined;
      /** A step that lasts longer is killed, and has failed with exit code 124. */
      readonly timeoutsMs?: { readonly [Step in 'clean' | 'build' | 'exec']?: number | undefined } | undefined;
    };

export interface ProgramToStart {
  readonly argv: readonly string[];
  /** Besides what every program of the kernel has. */
  readonly environ: Readonly<Record<string, string>>;
}

interface Pending {
  readonly reply: Deferred<Record<string, unknown>>;
  readonly cancel: () => void;
}

export class RunnerClient {
  readonly #directory: RunDirectory;
  readonly #options: RunnerClientOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #listeners = new Set<(event: RunEvent) => void>();
  readonly #pending = new Map<number, Pending>();
  /** See `RunEvent.last`; by run id. */
  readonly #untold = new Map<string, RunRecord>();
  readonly #closed = new AbortController();
  #connected: Deferred<void> = deferred();
  #socket: Socket | undefined;
  #sequence = 0;
  #exit: KernelExit | undefined;

  /** Dials in the background until `close`; `RunnerClient.connect` also waits for the first answer. */
  constructor(options: RunnerClientOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#directory = new RunDirectory(options.runDirectory);
    void options.ended?.then(
      (exit) => this.#kernelEnded(exit),
      () => this.#kernelEnded({ exitCode: null }),
    );
    new BackgroundTasks(this.#logger).start('keep a runner connected', () => this.#keepConnected());
  }

  /**
   * A client whose runner has answered its first ping.
   * @throws AppError `kernel-start-failed` when the kernel ended before, `deadline-exceeded`, `cancelled`
   */
  static async connect(options: RunnerClientOptions & ConnectOptions): Promise<RunnerClient> {
    const client = new RunnerClient(options);
    const abort = (): void => client.close();
    options.signal?.addEventListener('abort', abort, { once: true });
    if (options.signal?.aborted) abort();
    try {
      const deadline = client.#clock.monotonic() + options.deadlineMs;
      for (;;) {
        try {
          await client.ping({ timeoutMs: Math.max(1, deadline - client.#clock.monotonic()) });
          return client;
        } catch (error) {
          if (!hasCode(error, 'connection-lost') || client.#clock.monotonic() >= deadline) throw error;
        }
      }
    } catch (cause) {
      client.close();
      if (client.#exit) {
        throw new AppError('kernel-start-failed', 'The kernel ended before its runner answered.', {
          cause,
          data: { exitCode: client.#exit.exitCode },
        });
      }
      if (options.signal?.aborted) throw new AppError('cancelled', 'The start was cancelled.', { cause });
      throw cause;
    } finally {
      options.signal?.removeEventListener('abort', abort);
    }
  }

  get isConnected(): boolean {
    return this.#socket !== undefined;
  }

  async ping(options: RequestOptions = {}): Promise<RunnerInfo> {
    const info = parseInfo(await this.#request({ op: 'ping' }, options));
    if (!info) throw new AppError('kernel-lost', "The kernel's runner answers with something unknown.");
    return info;
  }

  /**
   * Hands a runner that waited over to its session: from now on its programs have this environment, and no other. Once.
   * @throws AppError `state-conflict` when it was handed over before
   */
  async claim(environ: Readonly<Record<string, string>>, options: RequestOptions = {}): Promise<void> {
    await this.#request({ op: 'claim', environ }, options);
  }

  /** Accepted at once; runs follow one another. Repeating a run id is harmless. `known` tells that it was one. */
  async execute(runId: string, execution: Execution, options: RequestOptions = {}): Promise<{ known: boolean }> {
    if (!isRunId(runId)) throw new AppError('invalid-input', 'The id of the execution is not acceptable.');
    const body = await this.#request({ op: 'execute', runId, ...execution }, options);
    return { known: body.known === true };
  }

  /** Answers a question of a query, or goes to the stdin of a batch program as it is; `eof` closes that. */
  async input(runId: string, text: string, options: RequestOptions & { readonly eof?: boolean } = {}): Promise<void> {
    await this.#request({ op: 'input', runId, text, eof: options.eof === true }, options);
  }

  /** As Ctrl-C does, to the given or the current run. False when there was nothing to interrupt. */
  async interrupt(runId?: string, options: RequestOptions = {}): Promise<boolean> {
    const body = await this.#request({ op: 'interrupt', ...(runId === undefined ? {} : { runId }) }, options);
    return body.signalled === true;
  }

  /** SIGKILL to a batch run; a query is interrupted. */
  async kill(runId: string, options: RequestOptions = {}): Promise<boolean> {
    return (await this.#request({ op: 'kill', runId }, options)).signalled === true;
  }

  /** Texts that may stand in place of the last word before `cursor`; none while the interpreter is busy. */
  async complete(code: string, cursor: number = code.length, options: RequestOptions = {}): Promise<string[]> {
    return parseCompletions(await this.#request({ op: 'complete', code: code.slice(0, cursor), cursor }, options));
  }

  /** Starts a program beside the runs; false: one of this name runs already. */
  async startProgram(name: string, program: ProgramToStart): Promise<boolean> {
    const { argv, environ } = program;
    return (await this.#request({ op: 'start-program', name, argv, environ }, {})).started === true;
  }

  /** Undefined: none of this name was started. */
  async program(name: string): Promise<ProgramState | undefined> {
    return parseProgram(await this.#request({ op: 'program', name }, {}));
  }

  /** SIGTERM, and SIGKILL a moment later, to a program and what it started. */
  async stopProgram(name: string): Promise<void> {
    await this.#request({ op: 'stop-program', name }, {});
  }

  /** The files `<name>.json` of a folder as the kernel sees it, by name; none when there is no such folder. */
  async definitions(folder: string): Promise<ReadonlyMap<string, string>> {
    return parseTexts((await this.#request({ op: 'definitions', folder }, {})).files);
  }

  /**
   * A connection of its own that carries frames of a terminal; see `terminal-frames.ts` of the rpc package.
   * @throws AppError `connection-lost`, `kernel-busy`, `unsupported-feature` when the kernel can have no terminals
   */
  async openTerminal({ name, rows, cols, term }: TerminalOptions): Promise<Socket> {
    this.#refuseIfOver();
    const socket = await this.#dial();
    if (!socket) throw new AppError('connection-lost', "The kernel's runner does not answer.");
    const abort = (): void => void socket.destroy();
    const cancel = this.#clock.setTimer(this.#options.requestTimeoutMs ?? 10_000, abort);
    try {
      socket.write(`${JSON.stringify({ seq: 1, op: 'attach', terminal: name, rows, cols, term })}\n`);
      for (;;) {
        // States of runs come first.
        const reply = parseReply(await readHead(socket));
        if (!reply) continue;
        if (!reply.ok) throw refusalOf(reply);
        return socket;
      }
    } catch (error) {
      socket.on('error', () => {});
      socket.destroy();
      throw error;
    } finally {
      cancel();
    }
  }

  /** Events may be missed while disconnected: they hurry readers, the journal has the truth. */
  onRunEvent(listener: (event: RunEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  untold(runId: string): RunRecord | undefined {
    return this.#untold.get(runId);
  }

  journal(runId: string): RunJournal {
    return new RunJournal(this.#directory, runId, this, this.#clock);
  }

  /** See `collectRun`; when the kernel ends, the result is `finished`. */
  collect(runId: string, cursor: number, options: CollectOptions): Promise<RunResult> {
    return collectRun(this.journal(runId), cursor, { clock: this.#clock, ended: this.#options.ended, ...options });
  }

  close(): void {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    this.#socket?.destroy();
    this.#directory.close();
    this.#failAll(new AppError('shutting-down', 'The kernel is no longer followed.'));
  }

  async #request(message: Record<string, unknown>, options: RequestOptions): Promise<Record<string, unknown>> {
    const timeoutMs = options.timeoutMs ?? this.#options.requestTimeoutMs ?? 10_000;
    const seq = ++this.#sequence;
    const reply = deferred<Record<string, unknown>>();
    const cancel = this.#clock.setTimer(timeoutMs, () => {
      reply.reject(new AppError('deadline-exceeded', "The kernel's runner did not answer in time."));
    });
    this.#pending.set(seq, { reply, cancel });
    try {
      this.#refuseIfOver();
      if (!this.#socket) await Promise.race([this.#connected.promise, reply.promise]);
      this.#socket?.write(`${JSON.stringify({ seq, ...message })}\n`);
      return await reply.promise;
    } finally {
      cancel();
      this.#pending.delete(seq);
    }
  }

  #refuseIfOver(): void {
    if (this.#exit) throw new AppError('kernel-lost', 'The kernel has ended.');
    if (this.#closed.signal.aborted) throw new AppError('shutting-down', 'The kernel is no longer followed.');
  }

  async #keepConnected(): Promise<void> {
    let since = this.#clock.monotonic();
    while (!this.#closed.signal.aborted && !this.#exit) {
      const socket = await this.#dial();
      if (socket) {
        await this.#serve(socket);
        since = this.#clock.monotonic();
      }
      // The wait at the start of a session is felt by its user: look often at first.
      const waited = this.#clock.monotonic() - since;
      await delay(this.#clock, Math.min(500, Math.max(1, waited / 20)), this.#closed.signal);
    }
  }

  async #dial(): Promise<Socket | undefined> {
    try {
      const target = this.#directory.openSocket();
      if (!target) return undefined;
      return await new Promise((resolve) => {
        const socket = connect(target.path);
        const settle = (result: Socket | undefined): void => {
          target.close();
          socket.removeAllListeners();
          if (!result) socket.destroy();
          resolve(result);
        };
        socket.once('connect', () => settle(socket));
        socket.once('error', () => settle(undefined));
      });
    } catch (error) {
      if (!this.#closed.signal.aborted) this.#logger.warn('runner socket refused', { error });
      return undefined;
    }
  }

  /** Resolves when the connection is over. */
  #serve(socket: Socket): Promise<void> {
    const lines = new LineSplitter(lineLimitBytes);
    const over = deferred();
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#socket = undefined;
      this.#connected = deferred();
      this.#failAll(new AppError('connection-lost', "The connection to the kernel's runner was lost."));
      over.resolve();
    });
    socket.on('data', (chunk: Buffer) => {
      const found = lines.push(chunk);
      for (const line of found ?? []) this.#receive(line);
      if (!found) {
        this.#logger.warn('runner sent a line that is too long', { limit: lineLimitBytes });
        socket.destroy();
      } else if (found.length > floodLines) {
        // Nobody honest says so much at once: other kernels need this thread, too.
        socket.pause();
        this.#clock.setTimer(floodPauseMs, () => socket.resume());
      }
    });
    if (this.#closed.signal.aborted) {
      socket.destroy();
    } else {
      this.#socket = socket;
      this.#connected.resolve();
    }
    return over.promise;
  }

  #receive(line: string): void {
    const message = parseObject(line);
    const event = message && parseEvent(message);
    if (event) {
      this.#keepUntold(event);
      for (const listener of [...this.#listeners]) listener(event);
      return;
    }
    const reply = message && parseReply(message);
    const pending = reply && this.#pending.get(reply.re);
    if (!reply || !pending) return;
    if (reply.ok) {
      pending.reply.resolve(reply.body);
    } else {
      pending.reply.reject(refusalOf(reply));
    }
  }

  #keepUntold({ runId, last }: RunEvent): void {
    this.#untold.delete(runId);
    if (!last) return;
    this.#untold.set(runId, last);
    const [oldest] = this.#untold.keys();
    if (oldest !== undefined && this.#untold.size > mostUntold) this.#untold.delete(oldest);
  }

  #kernelEnded(exit: KernelExit): void {
    this.#exit = exit;
    this.#socket?.destroy();
    this.#failAll(new AppError('kernel-lost', 'The kernel has ended.', { data: { exitCode: exit.exitCode } }));
  }

  #failAll(error: AppError): void {
    for (const { reply } of this.#pending.values()) reply.reject(error);
  }
}

function refusalOf({ code, message }: Extract<RunnerReply, { ok: false }>): AppError {
  const [known, text] = refusals[code] ?? (['internal', "The kernel's runner failed."] as const);
  return new AppError(known, text, { detail: { code, message } });
}

/** As many as a runner keeps and lets wait, and some. */
const mostUntold = 512;
const floodLines = 512;
const floodPauseMs = 5;
