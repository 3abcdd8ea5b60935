import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { Fetch, FetchInit } from './fetch.ts';

/**
 * A `fetch` on node:http, for programs that live shortly: Node's own takes longer to load than most commands take to
 * run. Connections are kept for the next call of the process and never keep the process alive.
 */
export const nodeFetch: Fetch = async (url, init) => {
  init.signal?.throwIfAborted();
  const target = new URL(url);
  const options = { method: init.method, headers: init.headers };
  const request =
    target.protocol === 'https:'
      ? (await import('node:https')).request(target, options)
      : httpRequest(target, { ...options, agent });
  const answered = answer(request);
  if (init.signal) obey(init.signal, request);
  const sent = send(request, init.body);
  // The first failure of either counts; the other one follows from it.
  const response = await Promise.race([answered, sent.then(() => answered)]);
  // Whoever reads the body meets its error; an abandoned body must not end the process.
  response.on('error', () => {});
  const status = response.statusCode ?? 0;
  return {
    status,
    ok: status >= 200 && status < 300,
    headers: {
      get(name) {
        const value = response.headers[name.toLowerCase()];
        return value === undefined ? null : String(value);
      },
    },
    body: response,
    async text() {
      const chunks: Uint8Array[] = [];
      for await (const chunk of response) chunks.push(chunk as Uint8Array);
      return Buffer.concat(chunks).toString('utf8');
    },
  };
};

const agent = new Agent({ keepAlive: true, scheduling: 'lifo' });

function answer(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    // Stays on after the answer: a connection reset later is told by the body's stream.
    request.on('error', reject);
  });
}

/**
 * Not by the `signal` option of node:http: that one destroys the socket also when the answer is already complete and
 * the socket on its way back to the agent, where nobody listens for its error.
 */
function obey(signal: AbortSignal, request: ClientRequest): void {
  let response: IncomingMessage | undefined;
  const abort = (): void => {
    if (!response?.complete) request.destroy(signal.reason instanceof Error ? signal.reason : undefined);
  };
  signal.addEventListener('abort', abort, { once: true });
  request.once('response', (message: IncomingMessage) => (response = message));
  request.once('close', () => signal.removeEventListener('abort', abort));
}

async function send(request: ClientRequest, body: FetchInit['body']): Promise<void> {
  if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) {
    request.end(body);
    return;
  }
  await pipeline(body, request);
}
