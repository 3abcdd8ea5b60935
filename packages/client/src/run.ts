import type { ApiRouter, ConsoleItem, RunResult, RunStatus } from '@backend.ai/contract';
import { AppError, backoffMs, type ErrorBody, hasCode, Lane, newId } from '@backend.ai/core';
import type { inferRouterInputs } from '@trpc/server';
import type { Rpc } from './rpc.ts';

/**
 * One execution inside a session.
 *
 * The agent keeps a run's output in a journal; each reply carries the position up to which the caller has read, and
 * every call names it. So a reply that got lost is simply asked for again, and each console item comes exactly once.
 * The first call names the run: when its reply is lost, `continue` tells whether it arrived (`run-not-found` if not).
 */

type ExecuteCall = inferRouterInputs<ApiRouter>['session']['execute'];

export interface RunOptions {
  /** The program may last this long, in milliseconds. 0 is unlimited. */
  readonly timeoutMs?: number | undefined;
  /** Keep stdout and stderr for `result`. Turn it off when the output is large and iterated anyway. */
  readonly collect?: boolean | undefined;
  /** Go on trying for this long after the connection was lost, in milliseconds. */
  readonly reconnectMs?: number | undefined;
  /** Called when the program waits for input. */
  readonly onInputRequest?: ((request: { readonly isPassword: boolean }) => void) | undefined;
}

export interface RunOutcome {
  readonly runId: string;
  readonly status: RunStatus;
  /** 128 + n after signal n; null after `exec-timeout`. */
  readonly exitCode: number | null;
  /** What happened to the program besides its exit code. */
  readonly notices: ErrorBody[];
  /** Empty with `collect: false`. */
  readonly stdout: string;
  readonly stderr: string;
  /** From the first call to the last reply, in milliseconds. */
  readonly elapsedMs: number;
  /** The request that started it. */
  readonly requestId: string;
}

const defaultReconnectMs = 30_000;
/** Long enough to save calls, below every proxy's usual patience. */
const holdMs = 20_000;
/** The first reply only has to tell that the run exists; most short programs fit into it. */
const firstHoldMs = 250;
/** Collects what a program prints in one go, and stays below what a person notices. */
const flushMs = 15;
/** Unread output above which no more is fetched, in characters. */
const highWater = 4 * 1024 * 1024;

export class Run implements AsyncIterable<ConsoleItem> {
  readonly id: string = newId();
  readonly requestId: string;
  readonly #rpc: Rpc;
  readonly #session: string;
  readonly #options: RunOptions;
  readonly #outcome: Promise<RunOutcome>;
  readonly #unread: ConsoleItem[] = [];
  #unreadSize = 0;
  #iterated = false;
  #done = false;
  #cursor = 0;
  readonly #mode: FirstCall['mode'];
  /** The first reply has come: from then on the run may be given input. */
  #accepted = false;
  /** How often the program has asked for input. */
  #questions = 0;
  /** Calls of `write` and `end`. */
  readonly #inputs = new Lane();
  #wakers = new Set<() => void>();

  constructor(rpc: Rpc, session: string, first: FirstCall, options: RunOptions, requestId: string) {
    this.#rpc = rpc;
    this.#mode = first.mode;
    this.#session = session;
    this.#options = options;
    this.requestId = requestId;
    this.#outcome = this.#follow(first).finally(() => {
      this.#done = true;
      this.#wake();
    });
    // Whoever looks at `result` or iterates gets the error; nobody else must be killed by it.
    this.#outcome.catch(() => {});
  }

  /** Resolves when the run has ended, also with a non-zero exit code. Rejects when the run could not be followed. */
  get result(): Promise<RunOutcome> {
    return this.#outcome;
  }

  /** The output from its beginning. One iteration per run; each item comes once. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ConsoleItem, void, undefined> {
    if (this.#iterated) throw new AppError('state-conflict', 'The output of a run can be iterated once.');
    this.#iterated = true;
    for (;;) {
      const item = this.#unread.shift();
      if (item) {
        this.#unreadSize -= sizeOf(item);
        this.#wake();
        yield item;
      } else if (this.#done) {
        await this.#outcome;
        return;
      } else {
        await this.#changed();
      }
    }
  }

  /**
   * Text for the program's standard input. A snippet that calls `input()` gets one line for each call, so the promise
   * resolves when it has taken all of them.
   */
  write(text: string): Promise<void> {
    const parts = this.#mode === 'query' ? linesOf(text) : chunksOf(text);
    return this.#inputs.follow(async () => {
      for (const code of parts) await this.#give({ code, options: {} });
    });
  }

  /** No more input will come: the program reads end-of-file. */
  end(): Promise<void> {
    return this.#inputs.follow(() => this.#give({ code: '', options: { eof: true } }));
  }

  /** As Ctrl-C at a terminal. */
  async interrupt(): Promise<void> {
    await this.#rpc.session.interrupt.mutate({ session: this.#session }, this.#context());
    this.#wake();
  }

  /** Output in these replies is left for the reader, which asks for it from its own cursor. */
  async #give(input: Pick<ExecuteCall, 'code' | 'options'>): Promise<void> {
    while (!this.#accepted && !this.#done) await this.#changed();
    for (let attempt = 0; !this.#done; attempt++) {
      const questions = this.#questions;
      const where = { session: this.#session, runId: this.id, cursor: this.#cursor, flushMs: 0, holdMs: 0 };
      try {
        await this.#rpc.session.execute.mutate({ ...where, ...input, mode: 'input' }, this.#context());
        this.#wake();
        return;
      } catch (thrown) {
        if (this.#done) break;
        // A program that reads slowly is given time; a snippet takes input only after it asked.
        if (hasCode(thrown, 'kernel-busy')) await this.#changed(backoffMs(attempt, { initialMs: 20, maxMs: 500 }));
        else if (!hasCode(thrown, 'state-conflict') || this.#mode !== 'query') throw thrown;
        else while (this.#questions === questions && !this.#done) await this.#changed();
      }
    }
    throw new AppError('state-conflict', 'The program has ended and takes no more input.', {
      requestId: this.requestId,
    });
  }

  async #follow(first: FirstCall): Promise<RunOutcome> {
    const startedAt = performance.now();
    const texts: Record<'stdout' | 'stderr', string[]> = { stdout: [], stderr: [] };
    const notices = new Map<string, ErrorBody>();
    for await (const reply of this.#replies(first)) {
      for (const item of reply.console) {
        this.#unread.push(item);
        this.#unreadSize += sizeOf(item);
        const [kind, data] = item;
        if (this.#options.collect !== false && (kind === 'stdout' || kind === 'stderr')) texts[kind].push(String(data));
      }
      for (const notice of reply.notices) notices.set(`${notice.code} ${notice.message}`, notice);
      this.#wake();
      if (reply.status === 'finished' || reply.status === 'exec-timeout') {
        return {
          runId: this.id,
          status: reply.status,
          exitCode: reply.exitCode,
          notices: [...notices.values()],
          stdout: texts.stdout.join(''),
          stderr: texts.stderr.join(''),
          elapsedMs: Math.round(performance.now() - startedAt),
          requestId: this.requestId,
        };
      }
      if (reply.status === 'waiting-input') {
        this.#questions += 1;
        this.#wake();
        this.#options.onInputRequest?.({ isPassword: reply.options?.is_password ?? false });
      }
      while (this.#iterated && this.#unreadSize > highWater) await this.#changed();
    }
    throw new AppError('internal', 'The run ended without a result.', { requestId: this.requestId });
  }

  /** All replies, with lost connections bridged. */
  async *#replies(first: FirstCall): AsyncGenerator<RunResult, void, undefined> {
    const common = { session: this.#session, runId: this.id, flushMs, holdMs };
    const initial: ExecuteCall = {
      ...first,
      ...common,
      holdMs: firstHoldMs,
      cursor: 0,
      timeoutMs: this.#options.timeoutMs ?? 0,
    };
    let known = false;
    let sent = false;
    let failures = 0;
    let failingSince = 0;
    for (;;) {
      const call: ExecuteCall = sent ? { ...common, mode: 'continue', cursor: this.#cursor } : initial;
      try {
        const reply = await this.#rpc.session.execute.mutate(call, this.#context());
        known = true;
        sent = true;
        failures = 0;
        this.#cursor = reply.cursor;
        this.#accepted = true;
        yield reply;
      } catch (thrown) {
        if (sent && !known && hasCode(thrown, 'run-not-found')) {
          sent = false;
          continue;
        }
        const neverSent = !sent && hasCode(thrown, 'server-unreachable');
        if (neverSent || !hasCode(thrown, 'connection-lost', 'server-unreachable', 'shutting-down')) throw thrown;
        if (failures === 0) failingSince = performance.now();
        if (performance.now() - failingSince > (this.#options.reconnectMs ?? defaultReconnectMs)) throw thrown;
        sent = true;
        await this.#pause(backoffMs(failures++, { initialMs: 100, maxMs: 2000 }));
      }
    }
  }

  #context(): { context: { requestId: string } } {
    return { context: { requestId: this.requestId } };
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms));
  }

  /** Resolves at the next `#wake`, or after `ms`. */
  #changed(ms?: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(done, ms);
      const wakers = this.#wakers;
      function done(): void {
        clearTimeout(timer);
        wakers.delete(done);
        resolve();
      }
      wakers.add(done);
    });
  }

  #wake(): void {
    for (const waker of [...this.#wakers]) waker();
  }
}

export type FirstCall =
  | { readonly mode: 'query'; readonly code: string }
  | { readonly mode: 'batch'; readonly options: NonNullable<ExecuteCall['options']> };

function sizeOf([, data]: ConsoleItem): number {
  return typeof data === 'string' ? data.length : data[1].length;
}

/** Each with its end of line; one empty text for an empty one, which answers a question with nothing. */
function linesOf(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [''];
}

const chunkChars = 64 * 1024;

function chunksOf(text: string): string[] {
  const chunks: string[] = [];
  for (let at = 0; at < text.length; ) {
    // A pair of surrogates stays together.
    const end = at + chunkChars + (isHighSurrogate(text, at + chunkChars - 1) ? 1 : 0);
    chunks.push(text.slice(at, end));
    at = end;
  }
  return chunks;
}

function isHighSurrogate(text: string, at: number): boolean {
  const unit = text.charCodeAt(at);
  return unit >= 0xd800 && unit <= 0xdbff;
}
