import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { Fetch, FetchInit } from './fetch.ts';

/**
 * A `fetch` on node:http, for programs that live shortly: Node's own takes longer to load than most commands take to
 * run. Connections are kept for the next call of the process and never keep the process alive.
 */
export const nodeFetch: Fetch = async (url, init) => {
  const target = new URL(url);
  const options = { method: init.method, headers: init.headers, ...(init.signal ? { signal: init.signal } : {}) };
  const request =
    target.protocol === 'https:'
      ? (await import('node:https')).request(target, options)
      : httpRequest(target, { ...options, agent });
  const answered = answer(request);
  // A server may refuse before it has read everything: its answer counts then, not the broken pipe.
  const sent = send(request, init.body);
  sent.catch(() => {});
  const response = await Promise.race([answered, sent.then(() => answered)]);
  // Whoever reads the body meets its error; an abandoned body must not end the process.
  response.on('error', () => {});
  return {
    status: response.statusCode ?? 0,
    ok: (response.statusCode ?? 0) >= 200 && (response.statusCode ?? 0) < 300,
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

async function send(request: ClientRequest, body: FetchInit['body']): Promise<void> {
  if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) {
    request.end(body);
    return;
  }
  await pipeline(body, request);
}
