import { authHeaders } from '@backend.ai/client';
import superjson from 'superjson';
import type { Servers } from './servers.ts';

/** Requests of the SDK's API as bytes, signed: what a client sends, without the client's own cost. */
export class ApiCalls {
  readonly #port: number;
  readonly #credentials: Servers['credentials'];

  constructor({ manager, credentials }: Pick<Servers, 'manager' | 'credentials'>) {
    this.#port = manager.port;
    this.#credentials = credentials;
  }

  query(path: string, input: unknown): string {
    return this.#request('GET', `/rpc/${path}?input=${encodeURIComponent(JSON.stringify(superjson.serialize(input)))}`);
  }

  mutation(path: string, input: unknown): string {
    return this.#request('POST', `/rpc/${path}`, JSON.stringify(superjson.serialize(input)));
  }

  #request(method: string, target: string, body = ''): string {
    const url = new URL(target, `http://127.0.0.1:${this.#port}`);
    const contentType = body ? 'application/json' : undefined;
    const headers = {
      host: url.host,
      ...authHeaders(this.#credentials, { method, url, contentType, now: new Date() }),
      ...(body ? { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) } : {}),
    };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    return `${method} ${url.pathname}${url.search} HTTP/1.1\r\n${lines.join('')}\r\n${body}`;
  }
}
