import http from 'node:http';
import https from 'node:https';
import { AppError, type Clock } from '@backend.ai/core';

export interface RegistryHttpOptions {
  readonly clock: Clock;
  /** For one request with its answer, in milliseconds. */
  readonly timeoutMs: number;
}

export interface HttpRequest {
  readonly method: 'GET' | 'DELETE';
  readonly url: string;
  readonly accept: string;
  readonly authorization?: string;
  readonly signal: AbortSignal;
}

export interface HttpAnswer {
  /** That was asked last, after redirections. */
  readonly url: string;
  readonly status: number;
  readonly body: Buffer;
  header(name: string): string | undefined;
}

/** Manifests, configurations and lists are documents; layers are never read here. */
const maxBytes = 8 * 1024 * 1024;
const maxRedirections = 5;

/** HTTP with keep-alive for registries: bounded in time, in size, and in how far it lets itself be sent. */
export class RegistryHttp {
  readonly #options: RegistryHttpOptions;
  readonly #agents = { 'http:': new http.Agent({ keepAlive: true }), 'https:': new https.Agent({ keepAlive: true }) };

  constructor(options: RegistryHttpOptions) {
    this.#options = options;
  }

  /** Any status is an answer. @throws AppError `registry-unreachable`, `registry-answer-invalid`, `cancelled` */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    const { clock, timeoutMs } = this.#options;
    const late = new AbortController();
    const cancel = clock.setTimer(timeoutMs, () => late.abort());
    const signal = AbortSignal.any([request.signal, late.signal]);
    const { origin } = new URL(request.url);
    try {
      let answer = await this.#once(request, signal);
      for (let turn = 0; turn < maxRedirections && isRedirection(answer); turn++) {
        const target = new URL(answer.header('location') ?? '', answer.url);
        if (target.protocol !== 'https:' && target.protocol !== new URL(answer.url).protocol) {
          throw new AppError('registry-answer-invalid', `${answer.url} sends on to what is not safe.`);
        }
        const { authorization, ...rest } = request;
        // Blobs often lie elsewhere, behind addresses that are secrets themselves: ours is for the registry only.
        const next = {
          ...rest,
          url: target.href,
          ...(target.origin === origin && authorization ? { authorization } : {}),
        };
        answer = await this.#once(next, signal);
      }
      return answer;
    } catch (cause) {
      if (cause instanceof AppError) throw cause;
      if (request.signal.aborted) throw new AppError('cancelled', 'Nobody waits for the answer any more.', { cause });
      const why = late.signal.aborted
        ? `did not answer within ${timeoutMs} ms`
        : `cannot be reached (${codeOf(cause)})`;
      throw new AppError('registry-unreachable', `${origin} ${why}.`, { data: { url: origin }, cause });
    } finally {
      cancel();
    }
  }

  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }

  async #once({ method, url, accept, authorization }: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
    const target = new URL(url);
    const isTls = target.protocol === 'https:';
    return await new Promise<HttpAnswer>((resolve, reject) => {
      const sent = (isTls ? https : http).request(target, {
        method,
        agent: this.#agents[isTls ? 'https:' : 'http:'],
        headers: { ...(accept ? { accept } : {}), ...(authorization ? { authorization } : {}) },
        signal,
      });
      sent.on('error', reject);
      sent.on('response', (answer) => {
        const chunks: Buffer[] = [];
        let size = 0;
        answer.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size <= maxBytes) return void chunks.push(chunk);
          reject(new AppError('registry-answer-invalid', `The answer to ${url} is longer than ${maxBytes} bytes.`));
          answer.destroy();
        });
        answer.on('error', reject);
        answer.on('end', () => {
          const header = (name: string): string | undefined => {
            const value = answer.headers[name];
            return Array.isArray(value) ? value.join(', ') : value;
          };
          resolve({ url, status: answer.statusCode ?? 0, body: Buffer.concat(chunks), header });
        });
      });
      sent.end();
    });
  }
}

function isRedirection(answer: HttpAnswer): boolean {
  return [301, 302, 303, 307, 308].includes(answer.status) && URL.canParse(answer.header('location') ?? '', answer.url);
}

function codeOf(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  return code ?? message ?? 'unknown';
}
