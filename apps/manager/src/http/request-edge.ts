import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Actor, CallContext } from '@backend.ai/contract';
import { AppError, newRequestId, parseRequestId, type RequestId } from '@backend.ai/core';
import { type RequestContext, runWithRequest } from '@backend.ai/telemetry';
import type { HttpDependencies } from './dependencies.ts';
import { rateHeaders } from './rate-limit.ts';

/**
 * What the edge knows of one request, from its head to the end of its response. It is made before any parsing of the
 * body and any routing, and puts its headers on the response at once, so that whatever answers carries them.
 */
export class RequestEdge {
  readonly requestId: RequestId;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The request target as it stood on the request line: what is signed. */
  readonly target: string;
  readonly startedAt: number;
  /** Seen by logs, and by everything that asks for the current request. */
  context: RequestContext;
  actor: Actor = { kind: 'anonymous' };
  /** Set instead of answering at once where a protocol (tRPC) has its own form of errors. */
  refusal: AppError | undefined;
  /** The client waits for permission to send its body. */
  expectsContinue = false;
  /** The work only waits or watches: it ends as soon as the server shuts down. */
  endsOnShutdown = false;
  /** A WebSocket took the connection over. */
  isUpgraded = false;
  /** Registered pattern of the URL, for logs and statistics. */
  route: string | undefined;
  /** Address of the caller: what a trusted proxy says, else the other end of the connection. */
  remote: string | undefined;
  #aborted: AppError | undefined;
  #cancelBodyDeadline: (() => void) | undefined;
  #abort: AbortController | undefined;

  constructor(request: IncomingMessage, response: ServerResponse, dependencies: HttpDependencies) {
    const chosen = chooseRequestId(request);
    this.requestId = chosen.requestId;
    this.request = request;
    this.response = response;
    this.target = request.url ?? '/';
    this.startedAt = dependencies.clock.monotonic();
    this.context = { requestId: this.requestId };
    setHeaders(response, standingHeaders(this.requestId));
    if (chosen.replaced)
      this.run(() => dependencies.logger.warn('invalid request id replaced', { header: chosen.replaced }));
    response.once('close', () => {
      if (!response.writableFinished) this.abort(new AppError('cancelled', 'The caller went away.'));
    });
    edges.set(request, this);
  }

  /** Aborts when the caller went away or the server ends. Made when somebody asks: most requests end unnoticed by it. */
  get signal(): AbortSignal {
    if (!this.#abort) {
      this.#abort = new AbortController();
      if (this.#aborted) this.#abort.abort(this.#aborted);
    }
    return this.#abort.signal;
  }

  /** Why `signal` is aborted, if it is. */
  get aborted(): AppError | undefined {
    return this.#aborted;
  }

  abort(reason: AppError): void {
    this.#aborted ??= reason;
    this.#abort?.abort(reason);
  }

  run<T>(work: () => T): T {
    return runWithRequest(this.context, work);
  }

  get callContext(): CallContext {
    const edge = this;
    return {
      requestId: this.requestId,
      actor: this.actor,
      headers: { request_id: this.requestId },
      get signal() {
        return edge.signal;
      },
    };
  }

  /** Replaces the time limit for the arrival of the body; undefined lifts it. */
  limitBody(cancel: (() => void) | undefined): void {
    this.#cancelBodyDeadline?.();
    this.#cancelBodyDeadline = cancel;
  }

  /** Lets a client that asked first send its body. */
  admitBody(): void {
    if (this.expectsContinue && !this.response.headersSent) this.response.writeContinue();
    this.expectsContinue = false;
  }
}

const edges = new WeakMap<IncomingMessage, RequestEdge>();

export function edgeOf(request: { readonly raw: IncomingMessage }): RequestEdge {
  const edge = edges.get(request.raw);
  if (!edge) throw new AppError('internal', 'A request did not pass the edge.');
  return edge;
}

export function findEdge(request: IncomingMessage): RequestEdge | undefined {
  return edges.get(request);
}

export function setHeaders(response: ServerResponse, headers: Readonly<Record<string, string>>): void {
  for (const name in headers) response.setHeader(name, headers[name] as string);
}

/** On every response, whoever writes it. */
export function standingHeaders(requestId: RequestId): Record<string, string> {
  return {
    'X-Backend-Request-ID': requestId,
    Server: 'BackendAI',
    'Access-Control-Allow-Origin': '*',
    'Access-Control-Expose-Headers': '*',
    ...rateHeaders(undefined),
  };
}

const idHeaders = ['x-request-id', 'x-backend-request-id', 'x-backendai-requestid'] as const;

function chooseRequestId(request: IncomingMessage): { requestId: RequestId; replaced?: string } {
  let replaced: string | undefined;
  for (const name of idHeaders) {
    const value = request.headers[name];
    if (value === undefined) continue;
    const requestId = parseRequestId(value);
    if (requestId) return { requestId };
    replaced ??= name;
  }
  return { requestId: newRequestId(), ...(replaced === undefined ? {} : { replaced }) };
}
