import { AsyncResource } from 'node:async_hooks';
import type { OperationHeaders, ProcedureMeta } from '@backend.ai/contract';
import {
  AppError,
  type BackoffOptions,
  backoffMs,
  type Clock,
  hasCode,
  newRequestId,
  parseRequestId,
  systemClock,
} from '@backend.ai/core';
import { failureFields, type Logger, requireRequestId, runWithRequest } from '@backend.ai/telemetry';
import type { TRPCClient } from '@trpc/client';
import type { AnyTRPCRouter } from '@trpc/server';
import { type CallSink, CallTable } from './calls.ts';
import { dial, parseAddress } from './dial.ts';
import type { Duplex } from './duplex.ts';
import { encodeValue } from './frames.ts';
import { introduce } from './handshake.ts';
import type { PeerIdentity } from './identity.ts';
import { createApi, type StartOperation } from './link.ts';
import { defaultLimits } from './server.ts';

/** `waiting` is between two attempts. */
export type RpcClientState = 'idle' | 'connecting' | 'ready' | 'waiting' | 'closed';

export interface RpcClientOptions {
  /** `ws://HOST:PORT`, `wss://HOST:PORT` or `inproc:NAME`. */
  readonly address: string;
  readonly identity: PeerIdentity;
  /** Public keys of the servers that may answer. */
  readonly serverKeys: readonly string[];
  /** A single-use token that registers this identity at the first connection. */
  readonly token?: string;
  /** For operations that say nothing themselves; the request id is added. */
  readonly headers?: () => OperationHeaders;
  /** `procedureMetas` of the router: default deadlines, and what may be sent twice. */
  readonly metas: ReadonlyMap<string, ProcedureMeta & { readonly type: string }>;
  /** What the peer registered with; version 2 looks for the request id at the top level of a frame. */
  readonly peerRpcVersion?: number;
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly reconnect?: BackoffOptions;
  /** For procedures that state no deadline; null means unlimited. Subscriptions have none unless they state one. */
  readonly defaultDeadlineMs?: number | null;
  readonly limits?: RpcClientLimits;
}

export interface RpcClientLimits {
  readonly maxFrameBytes?: number;
  /** Operations that may wait for a connection or for room on it; further ones get `rate-limited`. */
  readonly maxQueued?: number;
  /** A dead line is noticed within twice this time. */
  readonly pingMs?: number;
}

export interface RpcClient<TRouter extends AnyTRPCRouter> {
  /**
   * The typed procedures. They throw `AppError`. A call may override its deadline with
   * `{ context: { deadlineMs } }` (null means unlimited), name the term in which it was decided with
   * `{ context: { epoch } }`, and be cancelled with `{ signal }`.
   */
  readonly api: TRPCClient<TRouter>;
  readonly state: RpcClientState;
  /** The returned function stops listening. */
  onStateChange(listener: (state: RpcClientState, error?: AppError) => void): () => void;
  /**
   * Resolves when connected, rejects when this attempt fails; attempts go on in the background until `close`.
   * Calls connect by themselves.
   * @throws AppError `peer-rejected`, `server-unreachable`, `connection-lost`
   */
  connect(): Promise<void>;
  /** Fails what is under way with `connection-lost`; later calls fail with `shutting-down`. */
  close(): Promise<void>;
}

/** @throws AppError `config-invalid` for an address that is malformed or would need TLS */
export function createRpcClient<TRouter extends AnyTRPCRouter>(options: RpcClientOptions): RpcClient<TRouter> {
  return new Client<TRouter>(options);
}

const defaultReconnect: BackoffOptions = { initialMs: 50, maxMs: 5_000 };
const fallbackDeadlineMs = 10_000;

class Client<TRouter extends AnyTRPCRouter> implements RpcClient<TRouter> {
  readonly api: TRPCClient<TRouter>;
  readonly #options: RpcClientOptions;
  readonly #clock: Clock;
  readonly #target: ReturnType<typeof parseAddress>;
  readonly #calls: CallTable;
  readonly #listeners = new Set<(state: RpcClientState, error?: AppError) => void>();
  readonly #limits: Required<RpcClientLimits>;
  #state: RpcClientState = 'idle';
  #duplex: Duplex | undefined;
  #attempt: Promise<void> | undefined;
  #failures = 0;
  #cancelWait: (() => void) | undefined;
  #token: string | undefined;
  /** Why the server refused the last attempt: calls need not wait for the next one. */
  #rejection: AppError | undefined;
  #onGone: (() => void) | undefined;
  readonly #abortDialling = new AbortController();
  /** A line whose handshake is under way. */
  #introducing: Duplex | undefined;

  constructor(options: RpcClientOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#target = parseAddress(options.address);
    this.#token = options.token;
    const { maxFrameBytes, pingMs } = defaultLimits;
    this.#limits = { maxFrameBytes, pingMs, maxQueued: 10_000, ...options.limits };
    this.#calls = new CallTable({
      clock: this.#clock,
      remote: options.address,
      maxFrameBytes: this.#limits.maxFrameBytes,
      maxQueued: this.#limits.maxQueued,
      legacyRequestId: (options.peerRpcVersion ?? 3) < 3,
      onLost: (error) => this.#onLost(error),
    });
    this.api = createApi<TRouter>(this.#startOperation);
  }

  get state(): RpcClientState {
    return this.#state;
  }

  onStateChange(listener: (state: RpcClientState, error?: AppError) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  connect(): Promise<void> {
    return this.#connect(() => {});
  }

  /** An attempt that nobody waits for: its failure is told by the log. */
  #connectUnasked(): void {
    const { logger, address } = this.#options;
    const tell = (error: AppError): void => {
      const fields = { address, ...failureFields(error) };
      // The first of a row of failures is news; the others are the same news.
      if (this.#failures === 0) logger.warn('rpc connection failed', fields);
      else logger.debug('rpc connection failed again', { ...fields, failures: this.#failures });
    };
    this.#connect(tell).catch(() => {});
  }

  #connect(onFailure: (error: AppError) => void): Promise<void> {
    if (this.#state === 'closed') return Promise.reject(closedError());
    if (this.#state === 'ready') return Promise.resolve();
    if (this.#attempt) return this.#attempt;
    this.#cancelWait?.();
    this.#setState('connecting');
    // A connection serves many requests and belongs to none.
    const attempt = runWithRequest({ requestId: newRequestId() }, () => this.#tryConnect(onFailure));
    this.#attempt = attempt;
    attempt.catch(() => {});
    return attempt;
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#cancelWait?.();
    const duplex = this.#duplex;
    this.#setState('closed');
    this.#calls.failAll(
      new AppError('connection-lost', 'The connection was closed at this end before the answer came.'),
    );
    this.#abortDialling.abort();
    this.#introducing?.terminate();
    await this.#attempt?.catch(() => {});
    if (!duplex) return;
    await new Promise<void>((resolve) => {
      this.#onGone = resolve;
      duplex.close('the client was closed');
    });
  }

  async #tryConnect(onFailure: (error: AppError) => void): Promise<void> {
    const { identity, serverKeys } = this.#options;
    const clock = this.#clock;
    try {
      const { signal } = this.#abortDialling;
      const duplex = await dial(this.#target, { ...this.#limits, clock, signal });
      this.#introducing = duplex;
      if (signal.aborted) duplex.terminate();
      await introduce(duplex, { identity, serverKeys, token: this.#token, clock }, (limits) => {
        if (this.#state === 'closed') throw closedError();
        this.#duplex = duplex;
        this.#introducing = undefined;
        this.#token = undefined;
        this.#failures = 0;
        this.#rejection = undefined;
        this.#attempt = undefined;
        this.#setState('ready');
        this.#calls.attach(duplex, limits);
      });
    } catch (thrown) {
      const error = AppError.from(thrown);
      this.#attempt = undefined;
      this.#introducing = undefined;
      if (this.#state === 'closed') throw error;
      const rejected = hasCode(error, 'peer-rejected');
      if (rejected) {
        this.#rejection = error;
        this.#calls.failAll(error);
      }
      onFailure(error);
      this.#retryLater(error, rejected);
      throw error;
    }
  }

  #onLost(error: AppError): void {
    this.#duplex = undefined;
    if (this.#state === 'closed') {
      this.#onGone?.();
      return;
    }
    runWithRequest({ requestId: newRequestId() }, () => {
      this.#options.logger.warn('rpc connection lost', { address: this.#options.address, ...failureFields(error) });
      this.#retryLater(error, false);
    });
  }

  /** A server that refuses this peer is asked rarely: only an operator can change its mind. */
  #retryLater(error: AppError, rejected: boolean): void {
    const backoff = this.#options.reconnect ?? defaultReconnect;
    const waitMs = rejected ? backoff.maxMs : backoffMs(this.#failures, backoff);
    this.#failures += 1;
    this.#cancelWait = this.#clock.setTimer(waitMs, () => this.#connectUnasked());
    this.#setState('waiting', error);
  }

  #setState(state: RpcClientState, error?: AppError): void {
    if (this.#state === state) return;
    this.#state = state;
    for (const listener of [...this.#listeners]) listener(state, error);
  }

  readonly #startOperation: StartOperation = (operation, sink) => {
    const refused = this.#state === 'closed' ? closedError() : this.#rejection;
    if (refused) {
      sink.onError(refused);
      return () => {};
    }
    const { path, type, input } = operation;
    const meta = this.#options.metas.get(path);
    const requestId = parseRequestId(requireRequestId()) ?? newRequestId();
    let inputText: string;
    try {
      inputText = encodeValue(input);
    } catch (cause) {
      sink.onError(new AppError('invalid-input', `The input of ${path} cannot be encoded.`, { cause }));
      return () => {};
    }
    const epoch = operation.epoch ?? this.#options.headers?.().epoch;
    const headersText = `{"request_id":"${requestId}"${epoch === undefined ? '' : `,"epoch":${epoch}`}}`;
    const deadlineMs = this.#deadlineOf(type, meta, operation.deadlineMs);
    const idempotent = type === 'query' || (type === 'mutation' && meta?.idempotent === true);
    const bound: CallSink = type === 'subscription' ? bindSink(sink) : sink;
    const stop = this.#calls.start({ path, type, requestId, headersText, inputText, deadlineMs, idempotent }, bound);
    if (this.#state === 'idle') this.#connectUnasked();
    return stop;
  };

  #deadlineOf(type: string, meta: ProcedureMeta | undefined, own: number | null | undefined): number | undefined {
    if (own !== undefined) return own || undefined;
    if (meta?.deadlineMs !== undefined) return meta.deadlineMs || undefined;
    if (type === 'subscription') return undefined;
    const { defaultDeadlineMs = fallbackDeadlineMs } = this.#options;
    return defaultDeadlineMs || undefined;
  }
}

const closedError = (): AppError => new AppError('shutting-down', 'The client was closed.');

/** Items arrive in the context of the socket; the subscriber wants its own. */
function bindSink(sink: CallSink): CallSink {
  return {
    onItem: AsyncResource.bind((value: unknown) => sink.onItem(value)),
    onResult: AsyncResource.bind((value: unknown) => sink.onResult(value)),
    onDone: AsyncResource.bind(() => sink.onDone()),
    onError: AsyncResource.bind((error: AppError) => sink.onError(error)),
  };
}
