import { AppError, type Clock } from '@backend.ai/core';
import { type Duplex, type DuplexHandler, exceedsBytes } from './duplex.ts';
import {
  decodeServerFrame,
  decodeValue,
  encodeCancel,
  encodeOperation,
  type OperationType,
  peekId,
  type ServerFrame,
} from './frames.ts';
import type { ServerLimits } from './handshake.ts';
import { Outbox } from './outbox.ts';
import { tooLarge } from './server-connection.ts';

/** One operation that the caller wants done. */
export interface CallSpec {
  readonly path: string;
  readonly type: OperationType;
  readonly requestId: string;
  /** The encoded headers and input. */
  readonly headersText: string;
  readonly inputText: string;
  /** Undefined means unlimited. */
  readonly deadlineMs: number | undefined;
  /** May run twice. */
  readonly idempotent: boolean;
}

export interface CallSink {
  onItem(value: unknown): void;
  onResult(value: unknown): void;
  onDone(): void;
  onError(error: AppError): void;
}

interface Call extends CallSpec {
  readonly id: number;
  readonly sink: CallSink;
  readonly deadlineAt: number | undefined;
  cancelTimer: (() => void) | undefined;
  /** How often it went out; more than once only after lost connections. */
  sends: number;
  state: 'queued' | 'sent' | 'settled';
}

export interface CallTableOptions {
  readonly clock: Clock;
  readonly remote: string;
  readonly maxFrameBytes: number;
  readonly maxQueued: number;
  /** Repeat the request id where version 2 looks for it. */
  readonly legacyRequestId: boolean;
  /** The connection in use ended. */
  readonly onLost: (error: AppError) => void;
}

/** An operation that takes its server down with it is not repeated for ever. */
const maxSends = 3;

/**
 * All operations of a client, over however many connections it takes. Operations wait here while there is no
 * connection, while the server runs as many as it accepts, and while the line is full.
 */
export class CallTable implements DuplexHandler {
  readonly #options: CallTableOptions;
  readonly #calls = new Map<number, Call>();
  #queue: Call[] = [];
  #queueHead = 0;
  #queued = 0;
  #sent = 0;
  #lastId = 0;
  #line: { readonly duplex: Duplex; readonly outbox: Outbox; readonly limits: ServerLimits } | undefined;

  constructor(options: CallTableOptions) {
    this.#options = options;
  }

  /** Begins an operation; the returned function gives it up. */
  start(spec: CallSpec, sink: CallSink): () => void {
    const { clock, maxQueued } = this.#options;
    const { deadlineMs } = spec;
    if (this.#queued >= maxQueued) {
      sink.onError(new AppError('rate-limited', `More than ${maxQueued} operations wait for ${this.#options.remote}.`));
      return () => {};
    }
    this.#lastId += 1;
    const call: Call = {
      path: spec.path,
      type: spec.type,
      requestId: spec.requestId,
      headersText: spec.headersText,
      inputText: spec.inputText,
      deadlineMs,
      idempotent: spec.idempotent,
      id: this.#lastId,
      sink,
      deadlineAt: deadlineMs === undefined ? undefined : clock.monotonic() + deadlineMs,
      cancelTimer: undefined,
      sends: 0,
      state: 'queued',
    };
    if (deadlineMs !== undefined) call.cancelTimer = clock.setTimer(deadlineMs, () => this.#onDeadline(call));
    this.#calls.set(call.id, call);
    this.#queued += 1;
    if (this.#canSend() && this.#queued === 1) this.#send(call);
    else this.#queue.push(call);
    return () => this.#withdraw(call);
  }

  /** A new connection: what waits goes out. */
  attach(duplex: Duplex, limits: ServerLimits): void {
    this.#line = { duplex, outbox: new Outbox(duplex), limits };
    duplex.handler = this;
    this.#pump();
  }

  /** Gives everything up. */
  failAll(error: AppError): void {
    for (const call of [...this.#calls.values()]) this.#fail(call, error);
  }

  onMessage(text: string): void {
    let from = 0;
    const line = this.#line;
    while (from <= text.length && this.#line === line) {
      const end = text.indexOf('\n', from);
      this.#onFrame(from === 0 && end < 0 ? text : text.slice(from, end < 0 ? undefined : end));
      if (end < 0) break;
      from = end + 1;
    }
    this.#pump();
  }

  onDrain(): void {
    this.#pump();
  }

  onClose(reason: string): void {
    this.#line = undefined;
    const error = new AppError('connection-lost', `The connection to ${this.#options.remote} was lost: ${reason}.`);
    const again: Call[] = [];
    for (const call of [...this.#calls.values()]) {
      if (call.state !== 'sent') continue;
      if (!call.idempotent || call.sends >= maxSends) {
        this.#fail(call, error);
        continue;
      }
      call.state = 'queued';
      this.#sent -= 1;
      this.#queued += 1;
      again.push(call);
    }
    this.#queue = [...again, ...this.#queue.slice(this.#queueHead)];
    this.#queueHead = 0;
    this.#options.onLost(error);
  }

  #canSend(): boolean {
    const line = this.#line;
    return line !== undefined && this.#sent < line.limits.maxConcurrent && !line.outbox.isFull;
  }

  /** Sends what waits, as far as the server and the line take it. */
  #pump(): void {
    while (this.#queued > 0 && this.#canSend()) {
      const call = this.#queue[this.#queueHead];
      this.#queueHead += 1;
      if (call?.state === 'queued') this.#send(call);
    }
    if (this.#queueHead > 0 && (this.#queued === 0 || this.#queueHead > 1_024)) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
  }

  #send(call: Call): void {
    const { outbox, limits } = this.#line!;
    const { clock, maxFrameBytes, legacyRequestId } = this.#options;
    const leftMs = call.deadlineAt === undefined ? undefined : call.deadlineAt - clock.monotonic();
    const frame = encodeOperation(
      call,
      leftMs === undefined ? undefined : serverDeadlineMs(leftMs),
      legacyRequestId ? call.requestId : undefined,
    );
    const limit = Math.min(maxFrameBytes, limits.maxFrameBytes);
    if (exceedsBytes(frame, limit)) {
      this.#fail(call, tooLarge('request', limit));
      return;
    }
    call.state = 'sent';
    call.sends += 1;
    this.#queued -= 1;
    this.#sent += 1;
    outbox.push(frame);
  }

  #onFrame(text: string): void {
    const { maxFrameBytes } = this.#options;
    if (exceedsBytes(text, maxFrameBytes)) {
      const call = this.#calls.get(peekId(text) ?? 0);
      if (call) this.#fail(call, tooLarge('answer', maxFrameBytes));
      return;
    }
    let frame: ServerFrame;
    try {
      frame = decodeServerFrame(text);
    } catch {
      this.#line?.duplex.close('malformed frame');
      return;
    }
    const call = this.#calls.get(frame.id);
    // Without a call: the answer to an operation that was given up meanwhile.
    if (call) this.#onAnswer(call, frame);
  }

  #onAnswer(call: Call, frame: ServerFrame): void {
    const answer = readAnswer(call, frame);
    if (answer instanceof AppError) {
      this.#fail(call, answer);
    } else if (frame.item !== undefined) {
      call.sink.onItem(answer.value);
    } else {
      this.#settle(call);
      if (frame.done) call.sink.onDone();
      else call.sink.onResult(answer.value);
    }
  }

  #onDeadline(call: Call): void {
    const seconds = `${(call.deadlineMs ?? 0) / 1_000} s`;
    if (call.sends > 0) {
      this.#cancelRemotely(call);
      this.#fail(call, new AppError('deadline-exceeded', `${call.path} did not answer within ${seconds}.`));
      return;
    }
    const text = `${call.path} was not sent: no room on a connection to ${this.#options.remote} within ${seconds}.`;
    this.#fail(call, new AppError('connection-lost', text, { hint: 'Try again; nothing was changed.' }));
  }

  #withdraw(call: Call): void {
    if (call.state === 'settled') return;
    this.#cancelRemotely(call);
    this.#fail(call, new AppError('cancelled', `${call.path} was cancelled.`));
  }

  #cancelRemotely(call: Call): void {
    if (call.state === 'sent') this.#line?.outbox.push(encodeCancel(call.id));
  }

  #fail(call: Call, error: AppError): void {
    if (call.state === 'settled') return;
    this.#settle(call);
    call.sink.onError(error);
  }

  #settle(call: Call): void {
    if (call.state === 'queued') this.#queued -= 1;
    else if (call.state === 'sent') this.#sent -= 1;
    call.state = 'settled';
    call.cancelTimer?.();
    this.#calls.delete(call.id);
  }
}

function readAnswer(call: Call, frame: ServerFrame): AppError | { readonly value: unknown } {
  if (frame.request_id !== call.requestId)
    return new AppError('internal', `${call.path} was answered under the request id of another operation.`, {
      detail: { answered: frame.request_id },
    });
  if (frame.error) return AppError.fromBody(frame.error);
  try {
    return { value: frame.done ? undefined : decodeValue(frame.result ?? frame.item!) };
  } catch (cause) {
    return new AppError('internal', `The answer of ${call.path} cannot be decoded.`, { cause });
  }
}

/** The inner deadline is shorter than the outer one: the server's own answer arrives before the caller gives up. */
function serverDeadlineMs(leftMs: number): number {
  return Math.max(1, Math.floor(leftMs - Math.min(250, leftMs / 10)));
}
