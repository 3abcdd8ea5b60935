import type { Duplex } from 'node:stream';
import type {
  ApiRouter,
  CommitStarted,
  CreateSessionResult,
  DestroySessionResult,
  FileListing,
  ServiceStart,
  ServiceView,
  SessionExplanation,
  SessionHistoryEntry,
  SessionIdleView,
  SessionInspection,
  SessionLogChunk,
  SessionStatisticsView,
  SessionView,
} from '@backend.ai/contract';
import { AppError, explainReason, hasCode, isTerminal } from '@backend.ai/core';
import type { inferRouterInputs } from '@trpc/server';
import { followLogs } from './follow-logs.ts';
import { type Rpc, toAppError } from './rpc.ts';
import { Run, type RunOptions } from './run.ts';
import { type ConnectOptions, connectToService, type StartServiceOptions } from './services.ts';
import { subscribed } from './subscribed.ts';
import { Terminal, type TerminalOptions } from './terminal.ts';
import { download, type TransferOptions, type UploadSource, upload, writeWhole } from './transfers.ts';
import type { Transport } from './transport.ts';

export type CreateSessionOptions = inferRouterInputs<ApiRouter>['session']['create'];

export interface WaitOptions {
  /** Give up after this long, in milliseconds. 0 is unlimited. */
  readonly timeoutMs?: number | undefined;
  /** Called with each new status or reason, so that a person sees why it does not run yet. */
  readonly onChange?: ((view: SessionView) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface BatchCommands {
  readonly clean?: string | undefined;
  readonly build?: string | undefined;
  readonly exec: string;
  /** False: what the build prints stays out of the result. */
  readonly buildLog?: boolean | undefined;
  /** Milliseconds that each step may last; one that is late is killed, and has failed with exit code 124. */
  readonly timeoutsMs?: { readonly [Step in 'clean' | 'build' | 'exec']?: number } | undefined;
}

/** A compute session. With `await using`, it is destroyed at the end of the block. */
export class Session implements AsyncDisposable {
  readonly #transport: Transport;
  readonly #rpc: Rpc;
  #view: SessionView;
  /** False when `create` returned one that existed. */
  readonly created: boolean;

  constructor(transport: Transport, rpc: Rpc, { session, created }: CreateSessionResult) {
    this.#transport = transport;
    this.#rpc = rpc;
    this.#view = session;
    this.created = created;
  }

  get id(): string {
    return this.#view.id;
  }

  get name(): string {
    return this.#view.name;
  }

  /** As last seen. */
  get view(): SessionView {
    return this.#view;
  }

  async refresh(): Promise<SessionView> {
    return this.#see(await this.#rpc.session.get.query(this.#ref));
  }

  /** @throws AppError `session-failed` when it ended instead, `wait-timeout` with the reason it still waits */
  waitUntilRunning(options: WaitOptions = {}): Promise<SessionView> {
    return this.#wait('running', options);
  }

  /** @throws AppError `wait-timeout` */
  waitUntilEnded(options: WaitOptions = {}): Promise<SessionView> {
    return this.#wait('ended', options);
  }

  async #wait(until: 'running' | 'ended', { timeoutMs = 0, onChange, signal }: WaitOptions): Promise<SessionView> {
    const deadline = timeoutMs > 0 ? performance.now() + timeoutMs : Number.POSITIVE_INFINITY;
    let seen = '';
    let holdMs = 100;
    for (;;) {
      const view = this.#view;
      if (isTerminal(view.status)) {
        if (until === 'ended') return view;
        throw new AppError('session-failed', `The session ${view.name} ended before it ran: ${reasonText(view)}`, {
          hint: `See how it went with: ./backend.ai session history ${view.name}`,
          data: { session: view.id, status: view.status, reason: view.reason },
          requestId: view.requestId,
        });
      }
      if (view.status === 'RUNNING' && until === 'running') return view;
      const left = deadline - performance.now();
      if (left <= 0) {
        throw new AppError('wait-timeout', `The session ${view.name} is still ${view.status}: ${reasonText(view)}`, {
          hint:
            view.status === 'PENDING'
              ? `It stays queued; see what would let it start with: ./backend.ai session explain ${view.name}`
              : `Follow it with: ./backend.ai session info ${view.name}`,
          data: { session: view.id, status: view.status, reason: view.reason },
        });
      }
      const state = `${view.status} ${view.reason.code} ${view.reason.message} ${view.pull?.currentBytes ?? ''}`;
      if (state !== seen) onChange?.(view);
      seen = state;
      // The answer comes at once when the wait is over. It ends early only to show a changed reason.
      const input = { ...this.#ref, until, timeoutMs: Math.ceil(Math.min(left, onChange ? holdMs : 30_000)) };
      this.#see(await this.#rpc.session.wait.query(input, signal ? { signal } : {}));
      holdMs = Math.min(1000, holdMs * 2);
    }
  }

  /** Why it waits, what would let it start and when; or why it was placed where it is. */
  explain(): Promise<SessionExplanation> {
    return this.#rpc.session.explain.query(this.#ref);
  }

  /** What it is, uses, and what idle checkers would say now, of one moment. */
  inspect(): Promise<SessionInspection> {
    return this.#rpc.session.inspect.query(this.#ref);
  }

  /** What its kernels use now, or used last. */
  stats(): Promise<SessionStatisticsView> {
    return this.#rpc.session.stats.query(this.#ref);
  }

  /** The same again and again, a last time when it has ended. Leaving the loop or the signal ends it sooner. */
  async *watchStats({
    intervalMs = 5_000,
    signal,
  }: {
    readonly intervalMs?: number;
    readonly signal?: AbortSignal | undefined;
  } = {}): AsyncGenerator<SessionStatisticsView, void, undefined> {
    // The manager holds the answer back, so that nothing has to wait here, and the end comes at once.
    const input = { ...this.#ref, until: 'ended' as const, timeoutMs: Math.min(60_000, Math.round(intervalMs)) };
    for (;;) {
      const { status } = this.#view;
      yield await this.stats();
      if (isTerminal(status)) return;
      try {
        this.#see(await this.#rpc.session.wait.query(input, signal ? { signal } : {}));
      } catch (error) {
        if (signal?.aborted) return;
        throw toAppError(error);
      }
    }
  }

  /** What idle checkers would say now; nothing happens by asking. @throws AppError `session-not-running` */
  idle(): Promise<SessionIdleView> {
    return this.#rpc.session.idle.query(this.#ref);
  }

  /** The session now and after each change, until it has ended or the loop is left. */
  async *watch(): AsyncGenerator<SessionView, void, undefined> {
    const views = subscribed<SessionView>((handlers) => this.#rpc.session.watch.subscribe(this.#ref, handlers));
    for await (const view of views) yield this.#see(view);
  }

  /** Runs a snippet in the session's language; what it defines stays for the next one. */
  run(code: string, options: RunOptions = {}): Run {
    return this.#start({ mode: 'query', code }, options);
  }

  /** Runs shell commands. A failed build skips `exec`. */
  exec(commands: string | BatchCommands, options: RunOptions = {}): Run {
    return this.#start(
      { mode: 'batch', options: typeof commands === 'string' ? { exec: commands } : { ...commands } },
      options,
    );
  }

  #start(first: ConstructorParameters<typeof Run>[2], options: RunOptions): Run {
    return new Run(this.#rpc, this.id, first, options, this.#transport.nextRequestId());
  }

  /** @param path below /home/work, or absolute within it */
  upload(path: string, source: UploadSource, options?: TransferOptions): Promise<{ bytes: number }> {
    return upload(this.#transport, this.id, path, source, options);
  }

  async download(path: string, options?: TransferOptions): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.downloadStream(path, options)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  downloadStream(path: string, options?: TransferOptions): AsyncGenerator<Uint8Array, void, undefined> {
    return download(this.#transport, this.id, path, 'file', options);
  }

  /** Saves under exactly this local name. */
  downloadTo(path: string, file: string, options?: TransferOptions): Promise<void> {
    return writeWhole(file, this.downloadStream(path, options));
  }

  /** A tar of a file or folder, its entries named relative to its parent folder. */
  archive(path: string, options?: TransferOptions): AsyncGenerator<Uint8Array, void, undefined> {
    return download(this.#transport, this.id, path, 'archive', options);
  }

  /** @param attempt The n-th time that it was started, from 1; absent: the present or last one. */
  async logs(attempt?: number): Promise<string> {
    return (await this.#rpc.session.logs.query({ ...this.#ref, ...(attempt === undefined ? {} : { attempt }) })).logs;
  }

  /**
   * What it writes, from the beginning of what is kept or its last lines, until it has ended or the loop is left. It goes on
   * without loss or repetition when connections, managers or agents come and go. Whoever takes pieces slowly is sent no
   * more than a few ahead.
   */
  followLogs(
    options: { readonly tailLines?: number | undefined; readonly signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<SessionLogChunk, void, undefined> {
    return followLogs(this.#rpc, this.id, options);
  }

  files(path = '.'): Promise<FileListing> {
    return this.#rpc.session.listFiles.query({ ...this.#ref, path });
  }

  async complete(code: string, position?: number): Promise<string[]> {
    const input = { ...this.#ref, code, ...(position === undefined ? {} : { position }) };
    return (await this.#rpc.session.complete.query(input)).completions;
  }

  /**
   * A shell on a terminal of the session, made if there is none of this name; what was printed last comes first. It goes
   * on when the connection ends. Node.js only.
   */
  terminal(options: TerminalOptions = {}): Promise<Terminal> {
    return Terminal.open(this.#transport, this.id, options);
  }

  /** What its image offers, and the ports that were announced for programs of one's own. */
  services(): Promise<ServiceView[]> {
    return this.#rpc.session.services.query(this.#ref);
  }

  /** Makes sure that a service listens; one that runs already is a success. @throws AppError `service-failed` */
  async startService(service: string, options: StartServiceOptions = {}): Promise<ServiceStart> {
    const started = await this.#rpc.session.startService.mutate({ ...this.#ref, service, ...options });
    if (started.status !== 'failed') return started;
    throw new AppError('service-failed', `The service "${service}" did not start: ${started.error ?? ''}`);
  }

  async stopService(service: string): Promise<void> {
    await this.#rpc.session.stopService.mutate({ ...this.#ref, service });
  }

  /**
   * Bytes to and from a service, which is started if need be, or a port on which a program of the session listens
   * (`8000`). Node.js only.
   * @throws AppError `service-failed`, `state-conflict` when nothing listens there
   */
  connect(service: string, options: ConnectOptions = {}): Promise<Duplex> {
    return connectToService(this.#transport, this.id, service, options);
  }

  async interrupt(): Promise<void> {
    await this.#rpc.session.interrupt.mutate(this.#ref);
  }

  history(): Promise<SessionHistoryEntry[]> {
    return this.#rpc.session.history.query(this.#ref);
  }

  /** Records the wish and returns; see `waitUntilEnded`. `recursive` ends those, too, that depend on it. */
  async destroy(
    options: { readonly forced?: boolean; readonly recursive?: boolean } = {},
  ): Promise<DestroySessionResult> {
    const { dependents, ...session } = await this.#rpc.session.destroy.mutate({ ...this.#ref, ...options });
    return { ...this.#see(session), dependents };
  }

  /** Records the wish that it starts anew, under the same id and name; see `waitUntilRunning`. */
  async restart(): Promise<SessionView> {
    return this.#see(await this.#rpc.session.restart.mutate(this.#ref));
  }

  /** Makes its programs stand still; it keeps its resources. @throws AppError `unsupported-feature` */
  async pause(): Promise<SessionView> {
    return this.#see(await this.#rpc.session.pause.mutate(this.#ref));
  }

  /** Lets its programs go on. */
  async resume(): Promise<SessionView> {
    return this.#see(await this.#rpc.session.resume.mutate(this.#ref));
  }

  /**
   * Begins to make an image of what its files are now, except the home folder; `tasks.watch` tells how that goes. It is its
   * owner's under the name given, and in `images.list()` once the task is done.
   * @throws AppError `unsupported-feature`, `object-exists`, `quota-exceeded`
   */
  commit(image: string): Promise<CommitStarted> {
    return this.#rpc.session.commit.mutate({ ...this.#ref, image });
  }

  async rename(name: string): Promise<SessionView> {
    return this.#see(await this.#rpc.session.rename.mutate({ ...this.#ref, name }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (isTerminal(this.#view.status)) return;
    try {
      await this.destroy();
    } catch (thrown) {
      if (!hasCode(thrown, 'session-not-found', 'state-conflict')) throw thrown;
    }
  }

  get #ref(): { session: string } {
    return { session: this.id };
  }

  #see(view: SessionView): SessionView {
    this.#view = view;
    return view;
  }
}

function reasonText({ reason }: SessionView): string {
  const told = reason.message || explainReason(reason.code);
  const { error } = (reason.data ?? {}) as { error?: { message?: unknown } };
  return typeof error?.message === 'string' ? `${told} ${error.message}` : told;
}
