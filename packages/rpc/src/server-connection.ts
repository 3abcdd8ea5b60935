import { type CallContext, type OperationHeaders, type PeerActor, toAppError } from '@backend.ai/contract';
import { AppError, type Clock, newRequestId, parseRequestId, type RequestId } from '@backend.ai/core';
import { type Logger, observations, runWithRequest } from '@backend.ai/telemetry';
import { type AnyTRPCRouter, callTRPCProcedure } from '@trpc/server';
import { type Duplex, type DuplexHandler, exceedsBytes } from './duplex.ts';
import {
  decodeClientFrame,
  decodeValue,
  encodeDone,
  encodeError,
  encodeItem,
  encodeResult,
  type OperationFrame,
  peekId,
  peekRequestId,
} from './frames.ts';
import type { ServerLimits } from './handshake.ts';
import type { JoiningPeer } from './identity.ts';
import { Outbox } from './outbox.ts';

export interface ServerConnectionOptions {
  readonly duplex: Duplex;
  readonly peer: JoiningPeer;
  readonly router: AnyTRPCRouter;
  readonly limits: ServerLimits;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly onClosed: () => void;
}

/** One operation between its frame and its last answer. */
interface RunningOperation {
  readonly id: number;
  readonly type: OperationFrame['type'];
  readonly requestId: RequestId;
  /** Made when somebody first looks at the signal: most procedures never do, and it costs more than the frame. */
  abort: AbortController | undefined;
  /** Why the operation was given up before it ended. */
  stopped: AppError | undefined;
  cancelDeadline: (() => void) | undefined;
  /** The caller has its last answer, or wants none. */
  answered: boolean;
}

/** An accepted peer: runs its operations and answers them. */
export class ServerConnection implements DuplexHandler {
  readonly peer: JoiningPeer;
  readonly #options: ServerConnectionOptions;
  readonly #duplex: Duplex;
  readonly #outbox: Outbox;
  readonly #actor: PeerActor;
  readonly #actorName: string;
  readonly #running = new Map<number, RunningOperation>();
  #readingPaused = false;
  #draining = false;
  #closed = false;
  /** The peer broke the protocol: nothing it still sends counts. */
  #broken = false;
  #onIdle: (() => void) | undefined;

  constructor(options: ServerConnectionOptions) {
    const { peer, duplex } = options;
    this.peer = peer;
    this.#options = options;
    this.#duplex = duplex;
    this.#outbox = new Outbox(duplex);
    this.#actor = { kind: 'peer', peerKind: peer.kind, peerId: peer.id };
    this.#actorName = `${peer.kind}:${peer.id}`;
  }

  get remote(): string {
    return this.#duplex.remote;
  }

  /** Operations that have begun and not ended, also those nobody waits for any more. */
  get running(): number {
    return this.#running.size;
  }

  onMessage(text: string): void {
    let from = 0;
    while (from <= text.length && !this.#closed && !this.#broken) {
      const end = text.indexOf('\n', from);
      this.#onFrame(from === 0 && end < 0 ? text : text.slice(from, end < 0 ? undefined : end));
      if (end < 0) break;
      from = end + 1;
    }
    if (this.#outbox.isFull && !this.#readingPaused) {
      // A peer that asks but does not read its answers is not asked further.
      this.#readingPaused = true;
      this.#duplex.pause();
      void this.#outbox.untilLow().then(() => {
        this.#readingPaused = false;
        this.#duplex.resume();
      });
    }
  }

  onDrain(): void {
    this.#outbox.onDrain();
  }

  onClose(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const operation of this.#running.values()) {
      this.#finish(operation);
      stop(operation, new AppError('connection-lost', `The caller's connection ended: ${reason}.`));
    }
    this.#outbox.releaseWaiters();
    this.#onIdle?.();
    this.#options.onClosed();
  }

  /** Cuts the connection: for a peer that was revoked. */
  terminate(): void {
    this.#duplex.terminate();
  }

  /** Refuses new operations, lets the running ones end within `graceMs`, then says goodbye. */
  async drain(graceMs: number): Promise<void> {
    if (this.#closed) return;
    this.#draining = true;
    const shuttingDown = new AppError('shutting-down', 'The service is shutting down.');
    for (const operation of this.#running.values())
      if (operation.type === 'subscription') this.#fail(operation, shuttingDown);
    await this.#untilIdle(graceMs);
    for (const operation of this.#running.values()) this.#fail(operation, shuttingDown);
    this.#outbox.flush();
    this.#duplex.close('the service is shutting down');
  }

  #untilIdle(graceMs: number): Promise<void> {
    if (this.#unanswered() === 0 || this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#options.clock.setTimer(graceMs, resolve);
      this.#onIdle = () => {
        if (this.#unanswered() > 0 && !this.#closed) return;
        cancel();
        resolve();
      };
    });
  }

  #unanswered(): number {
    let count = 0;
    for (const operation of this.#running.values()) if (!operation.answered) count += 1;
    return count;
  }

  #onFrame(text: string): void {
    const { maxFrameBytes } = this.#options.limits;
    try {
      if (exceedsBytes(text, maxFrameBytes)) {
        const id = peekId(text);
        if (id === undefined) throw new AppError('malformed-body', 'A frame is too large to read.');
        this.#refuse(id, parseRequestId(peekRequestId(text)) ?? newRequestId(), tooLarge('request', maxFrameBytes));
        return;
      }
      const frame = decodeClientFrame(text);
      if (frame.type === 'cancel') this.#cancel(frame.id);
      else this.#begin(frame);
    } catch (error) {
      this.#violation(error);
    }
  }

  #begin(frame: OperationFrame): void {
    if (this.#running.has(frame.id)) throw new AppError('malformed-body', 'An operation id is used twice.');
    const { maxConcurrent } = this.#options.limits;
    const requestId = this.#requestIdOf(frame);
    if (this.#draining) {
      this.#refuse(frame.id, requestId, new AppError('shutting-down', 'The service is shutting down.'));
    } else if (this.#running.size >= maxConcurrent) {
      const text = `More than ${maxConcurrent} operations run on this connection.`;
      this.#refuse(frame.id, requestId, new AppError('rate-limited', text));
    } else this.#start(frame, requestId);
  }

  /** What cannot be decoded may stand for anything: the connection is of no use any more. */
  #violation(error: unknown): void {
    this.#broken = true;
    this.#options.logger.warn('rpc peer broke the protocol', { peer: this.#actorName, error });
    this.#outbox.flush();
    this.#duplex.close('malformed frame');
  }

  #requestIdOf(frame: OperationFrame): RequestId {
    const given = frame.headers?.request_id ?? frame.request_id;
    const valid = parseRequestId(given);
    if (valid) return valid;
    const requestId = newRequestId();
    if (given !== undefined) {
      const { logger } = this.#options;
      runWithRequest({ requestId, actor: this.#actorName }, () =>
        logger.warn('invalid request id replaced', { given: String(given).slice(0, 200), path: frame.path }),
      );
    }
    return requestId;
  }

  #cancel(id: number): void {
    const operation = this.#running.get(id);
    if (!operation) return;
    this.#finish(operation);
    stop(operation, new AppError('cancelled', 'The caller cancelled the operation.'));
  }

  #refuse(id: number, requestId: RequestId, error: AppError): void {
    this.#outbox.push(encodeError(id, requestId, error.toBody(requestId)));
  }

  #start(frame: OperationFrame, requestId: RequestId): void {
    const operation: RunningOperation = {
      id: frame.id,
      type: frame.type,
      requestId,
      abort: undefined,
      stopped: undefined,
      cancelDeadline: undefined,
      answered: false,
    };
    this.#running.set(frame.id, operation);
    if (frame.deadlineMs !== undefined)
      operation.cancelDeadline = this.#options.clock.setTimer(frame.deadlineMs, () =>
        this.#fail(operation, new AppError('deadline-exceeded', `${frame.path} did not answer in time.`)),
      );
    void runWithRequest({ requestId, actor: this.#actorName }, () => this.#run(frame, operation));
  }

  /** Never rejects. */
  async #run(frame: OperationFrame, operation: RunningOperation): Promise<void> {
    const { id, requestId } = operation;
    const begun = this.#options.clock.monotonic();
    let outcome: string = 'ok';
    try {
      const ctx: CallContext = {
        requestId,
        actor: this.#actor,
        headers: headersOf(frame, requestId),
        get signal() {
          return signalOf(operation);
        },
      };
      const result: unknown = await callTRPCProcedure({
        router: this.#options.router,
        path: frame.path,
        type: frame.type,
        getRawInput: async () => inputOf(frame),
        ctx,
        // tRPC would copy a getter at every middleware; services look at `ctx.signal`.
        signal: undefined,
        batchIndex: 0,
      });
      if (frame.type === 'subscription') await this.#sendItems(frame.path, operation, result);
      else if (!operation.answered) this.#answer(operation, encodeResult(id, requestId, result));
    } catch (thrown) {
      outcome = toAppError(thrown).code;
      this.#onThrown(frame.path, operation, thrown);
    }
    if (observations.rpcCall.wanted) {
      // What a peer made up would be kept for ever.
      const path = outcome === 'route-not-found' ? '(none)' : frame.path;
      const ms = this.#options.clock.monotonic() - begun;
      observations.rpcCall.tell({ path, outcome: operation.stopped?.code ?? outcome, ms });
    }
    this.#finish(operation);
    this.#running.delete(id);
    this.#onIdle?.();
  }

  async #sendItems(path: string, operation: RunningOperation, source: unknown): Promise<void> {
    if (!isAsyncIterable(source))
      throw new AppError('internal', 'An unexpected error happened.', { detail: `${path} yields no async iterable` });
    const { id, requestId } = operation;
    const { maxFrameBytes } = this.#options.limits;
    const iterator = source[Symbol.asyncIterator]();
    let wake: () => void = () => {};
    signalOf(operation).addEventListener('abort', () => wake(), { once: true });
    /** One promise per wait: racing against one that lives as long as the subscription would pile up reactions. */
    const unlessAborted = <T>(work: Promise<T>): Promise<T | undefined> =>
      new Promise((resolve, reject) => {
        wake = () => resolve(undefined);
        work.then(resolve, reject);
      });
    while (!operation.answered) {
      if (this.#outbox.isFull) await unlessAborted(this.#outbox.untilLow());
      if (operation.answered) break;
      const step = await unlessAborted(iterator.next());
      if (operation.answered || step === undefined) break;
      if (step.done) return this.#answer(operation, encodeDone(id, requestId));
      const frame = encodeItem(id, requestId, step.value);
      if (exceedsBytes(frame, maxFrameBytes)) this.#fail(operation, tooLarge('item', maxFrameBytes));
      else this.#outbox.push(frame);
    }
    // A generator that is busy ends when it next yields; nobody waits for that.
    iterator.return?.()?.catch((thrown: unknown) => this.#onThrown(path, operation, thrown));
  }

  #onThrown(path: string, operation: RunningOperation, thrown: unknown): void {
    const error = toAppError(thrown);
    const { logger } = this.#options;
    const wasStopped = operation.stopped && (error.cause as Error | undefined)?.name === 'AbortError';
    // One that came with a request id was logged where it happened.
    if (error.code === 'internal' && error.requestId === undefined && !wasStopped)
      logger.error('rpc operation failed unexpectedly', { path, error: error.cause ?? error });
    if (operation.answered) return;
    this.#answer(operation, this.#encodeError(operation, error));
  }

  #encodeError(operation: RunningOperation, error: AppError): string {
    const { id, requestId } = operation;
    try {
      return encodeError(id, requestId, error.toBody(requestId));
    } catch {
      // Its `data` was no JSON.
      return encodeError(id, requestId, { ...error.toBody(requestId), data: undefined });
    }
  }

  /** Answers in place of the procedure, and tells it to stop. */
  #fail(operation: RunningOperation, error: AppError): void {
    if (operation.answered) return;
    this.#answer(operation, this.#encodeError(operation, error));
    stop(operation, error);
  }

  #answer(operation: RunningOperation, frame: string): void {
    this.#finish(operation);
    const { maxFrameBytes } = this.#options.limits;
    if (exceedsBytes(frame, maxFrameBytes))
      this.#refuse(operation.id, operation.requestId, tooLarge('answer', maxFrameBytes));
    else this.#outbox.push(frame);
    this.#onIdle?.();
  }

  #finish(operation: RunningOperation): void {
    operation.answered = true;
    operation.cancelDeadline?.();
    operation.cancelDeadline = undefined;
  }
}

function signalOf(operation: RunningOperation): AbortSignal {
  operation.abort ??= new AbortController();
  if (operation.stopped) operation.abort.abort(operation.stopped);
  return operation.abort.signal;
}

function stop(operation: RunningOperation, reason: AppError): void {
  operation.stopped ??= reason;
  operation.abort?.abort(reason);
}

export function tooLarge(what: 'request' | 'answer' | 'item', limit: number): AppError {
  return new AppError('payload-too-large', `The ${what} is larger than the limit of ${limit} bytes.`, {
    data: { limitBytes: limit },
  });
}

/** Only the headers that are defined; a fencing number that is none must not pass for an absent one. */
function headersOf(frame: OperationFrame, requestId: RequestId): OperationHeaders {
  const epoch: unknown = frame.headers?.epoch;
  if (epoch === undefined) return { request_id: requestId };
  if (typeof epoch !== 'number' || !Number.isSafeInteger(epoch) || epoch < 0)
    throw new AppError('invalid-input', 'The epoch in the headers is not a whole number.');
  return { request_id: requestId, epoch };
}

function inputOf(frame: OperationFrame): unknown {
  try {
    return decodeValue(frame.input);
  } catch (cause) {
    throw new AppError('invalid-input', 'The input cannot be decoded.', { cause });
  }
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}
