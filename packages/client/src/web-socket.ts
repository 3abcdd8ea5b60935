import { AppError } from '@backend.ai/core';
import type { WebSocket } from 'ws';
import { errorOfConnection, errorOfResponse } from './response-error.ts';
import type { Transport } from './transport.ts';

const handshakeMs = 30_000;
/** Of one message from the server. */
const maxMessageBytes = 16 * 1024 * 1024;

/**
 * An open, signed WebSocket. Whatever goes wrong before leaves as an AppError, as with any request. It is paused, so that
 * nothing is lost before somebody listens.
 */
export async function openWebSocket(
  transport: Transport,
  target: string,
  signal?: AbortSignal | undefined,
): Promise<WebSocket> {
  // Most programs never need it.
  const { WebSocket } = await import('ws');
  const { url, headers, requestId } = transport.sign({ method: 'GET', target });
  const socket = new WebSocket(url.href.replace(/^http/, 'ws'), {
    headers,
    perMessageDeflate: false,
    maxPayload: maxMessageBytes,
    handshakeTimeout: handshakeMs,
  });
  const abort = (): void => socket.terminate();
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted) abort();
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('open', () => {
        socket.pause();
        resolve();
      });
      socket.once('error', (error) =>
        reject(errorOfConnection(error, { origin: url.origin, requestId, ...(signal ? { signal } : {}) })),
      );
      socket.once('unexpected-response', (_request, response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('close', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          reject(errorOfResponse(response.statusCode ?? 0, text, requestId));
        });
      });
    });
    socket.on('error', () => socket.terminate());
    return socket;
  } catch (error) {
    socket.on('error', () => {});
    socket.terminate();
    throw error instanceof AppError ? error : errorOfConnection(error, { origin: url.origin, requestId });
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}
