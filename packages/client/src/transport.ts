import { AppError, newRequestId, ownerAccessKeyHeader } from '@backend.ai/core';
import { authHeaders, type Credentials } from './credentials.ts';
import { type Fetch, type FetchInit, type FetchResponse, globalFetch } from './fetch.ts';
import { errorOfConnection, errorOfResponse } from './response-error.ts';

export interface TransportOptions extends Credentials {
  /** `http://127.0.0.1:8091`; a path in it is kept as a prefix. */
  readonly endpoint: string;
  /** Acts for the owner of this key pair, with the owner's rights; what is made is the owner's. */
  readonly ownerAccessKey?: string | undefined;
  /** One id for everything this client does, or a function that makes one per operation. */
  readonly requestId?: string | (() => string) | undefined;
  readonly fetch?: Fetch | undefined;
}

export interface TransportRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Path and query below the endpoint, percent-encoded. */
  readonly target: string;
  readonly contentType?: string;
  readonly headers?: Record<string, string>;
  readonly body?: FetchInit['body'];
  readonly signal?: AbortSignal | undefined;
  readonly requestId?: string | undefined;
}

export interface TransportReply {
  readonly response: FetchResponse;
  readonly requestId: string;
}

/** Sends signed requests that carry a request id; whatever goes wrong leaves as an AppError. */
export interface Transport {
  readonly endpoint: string;
  nextRequestId(): string;
  send(request: TransportRequest): Promise<TransportReply>;
  /** As `send`, for callers that take the bare response (`eventsource`): answers that are no success are returned. */
  sendRaw(request: TransportRequest): Promise<TransportReply>;
  /** The headers that make a request ours, for what is sent by other means. */
  sign(request: Pick<TransportRequest, 'method' | 'target' | 'contentType' | 'requestId'>): SignedHeaders;
}

export interface SignedHeaders {
  readonly url: URL;
  readonly headers: Record<string, string>;
  readonly requestId: string;
}

export function createTransport(options: TransportOptions): Transport {
  const endpoint = parseEndpoint(options.endpoint);
  const fetch = options.fetch ?? globalFetch;
  const { requestId: given } = options;
  const nextRequestId = typeof given === 'function' ? given : () => given ?? newRequestId();

  const sign: Transport['sign'] = ({ method, target, contentType, requestId = nextRequestId() }) => {
    const url = new URL(endpoint + target);
    const headers = {
      ...(contentType === undefined ? {} : { 'content-type': contentType }),
      'x-request-id': requestId,
      ...(options.ownerAccessKey === undefined ? {} : { [ownerAccessKeyHeader]: options.ownerAccessKey }),
      ...authHeaders(options, { method, url, contentType, now: new Date() }),
    };
    return { url, headers, requestId };
  };

  async function sendRaw(request: TransportRequest): Promise<TransportReply> {
    const { method, signal, body } = request;
    const { url, headers: signed, requestId } = sign(request);
    const headers = { ...request.headers, ...signed };
    const source = typeof body === 'object' && !(body instanceof Uint8Array) ? new Source(body) : undefined;
    try {
      const response = await fetch(url.href, {
        method,
        headers,
        ...(body === undefined ? {} : { body: source ?? body }),
        ...(signal === undefined ? {} : { signal }),
        ...(source ? { duplex: 'half' as const } : {}),
      });
      return { response, requestId: response.headers.get('x-backend-request-id') ?? requestId };
    } catch (thrown) {
      throw errorOfConnection(source?.failure ?? thrown, {
        origin: url.origin,
        requestId,
        ...(signal ? { signal } : {}),
      });
    }
  }

  async function send(request: TransportRequest): Promise<TransportReply> {
    const reply = await sendRaw(request);
    if (reply.response.ok) return reply;
    const text = await readText(reply, endpoint);
    throw errorOfResponse(reply.response.status, text, reply.requestId);
  }

  return { endpoint, nextRequestId, send, sendRaw, sign };
}

/** Remembers why a stream of ours failed: `fetch` tells only that it failed. */
class Source implements AsyncIterable<Uint8Array> {
  readonly #chunks: AsyncIterable<Uint8Array>;
  failure: unknown;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* this.#chunks;
    } catch (thrown) {
      this.failure = thrown;
      throw thrown;
    }
  }
}

/** The whole body as text. @throws AppError `connection-lost` */
export async function readText({ response, requestId }: TransportReply, origin: string): Promise<string> {
  try {
    return await response.text();
  } catch (thrown) {
    throw errorOfConnection(thrown, { origin, requestId });
  }
}

/** Without trailing slashes. @throws AppError `config-invalid` */
export function parseEndpoint(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new AppError('config-invalid', `"${text}" is not the URL of a server.`, {
      hint: 'Write it as http://127.0.0.1:8091.',
      cause,
    });
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new AppError('config-invalid', `"${text}" is not an http or https URL.`);
  }
  return (url.origin + url.pathname).replace(/\/+$/, '');
}
