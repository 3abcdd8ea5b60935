import { request } from 'node:http';
import { signRequest } from '@backend.ai/core';
import type { Credentials } from './cluster.ts';

export interface SignedOptions {
  readonly date?: Date;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

export interface SignedResponse {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly text: string;
  readonly body: unknown;
}

/** One REST request as the clients of the original sign it. */
export function signedRequest(
  { endpoint, accessKey, secretKey }: Credentials,
  method: string,
  target: string,
  options: SignedOptions = {},
): Promise<SignedResponse> {
  const url = new URL(endpoint);
  const date = (options.date ?? new Date()).toISOString().replace('Z', '+00:00');
  const body = options.body === undefined ? undefined : JSON.stringify(options.body);
  const contentType = body === undefined ? 'text/plain' : 'application/json';
  const version = 'v7.20230615';
  const day = date.slice(0, 10).replaceAll('-', '');
  const signature = signRequest(secretKey, { method, target, date, day, host: url.host, contentType, version });
  return new Promise((resolve, reject) => {
    const call = request(
      new URL(target, endpoint),
      {
        method,
        headers: {
          Date: date,
          'Content-Type': contentType,
          'Content-Length': Buffer.byteLength(body ?? ''),
          'X-BackendAI-Version': version,
          Authorization: `BackendAI signMethod=HMAC-SHA256, credential=${accessKey}:${signature}`,
          ...options.headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('error', reject);
        response.once('end', () => {
          const text = String(Buffer.concat(chunks));
          const isJson = /json/.test(response.headers['content-type'] ?? '');
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text,
            body: isJson ? (JSON.parse(text) as unknown) : text,
          });
        });
      },
    );
    call.once('error', reject);
    call.end(body);
  });
}
