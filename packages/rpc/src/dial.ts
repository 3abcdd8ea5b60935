import type { Socket } from 'node:net';
import { AppError, type Clock, isLoopback } from '@backend.ai/core';
import { WebSocket } from 'ws';
import type { Duplex } from './duplex.ts';
import { handshakeTimeoutMs } from './handshake.ts';
import { dialInProcess } from './in-process-duplex.ts';
import { webSocketDuplex } from './websocket-duplex.ts';

export interface DialOptions {
  readonly maxFrameBytes: number;
  readonly pingMs: number;
  readonly clock: Clock;
  /** Gives up dialling. */
  readonly signal?: AbortSignal;
}

type Target = { readonly kind: 'inproc'; readonly name: string } | { readonly kind: 'websocket'; readonly url: string };

/** @throws AppError `config-invalid` when the address is malformed or would send plain text off this machine */
export function parseAddress(address: string): Target {
  if (address.startsWith('inproc:')) return { kind: 'inproc', name: address.slice('inproc:'.length) };
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (!url || !['ws:', 'wss:'].includes(url.protocol))
    throw new AppError('config-invalid', `"${address}" is no peer address.`, {
      hint: 'Use ws://HOST:PORT, wss://HOST:PORT or inproc:NAME.',
    });
  if (url.protocol === 'ws:' && !isLoopback(url.hostname))
    throw new AppError('config-invalid', `Calling ${address} needs TLS: it is on another machine.`, {
      hint: 'Use a wss:// address.',
    });
  return { kind: 'websocket', url: address };
}

/** An open line to a server that has not proved anything yet. @throws AppError `server-unreachable` */
export async function dial(target: Target, options: DialOptions): Promise<Duplex> {
  return target.kind === 'inproc' ? dialInProcess(target.name) : dialWebSocket(target.url, options);
}

function dialWebSocket(url: string, options: DialOptions): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    let raw: Socket | undefined;
    const socket = new WebSocket(url, {
      perMessageDeflate: false,
      handshakeTimeout: handshakeTimeoutMs,
      maxPayload: options.maxFrameBytes * 4,
      minVersion: 'TLSv1.3',
      // The server proves its pinned key over this very TLS session (channel binding): its certificate adds nothing.
      rejectUnauthorized: false,
    });
    const giveUp = (): void => socket.terminate();
    options.signal?.addEventListener('abort', giveUp, { once: true });
    socket.once('upgrade', (response) => {
      raw = response.socket;
    });
    const settled = (): void => options.signal?.removeEventListener('abort', giveUp);
    const onError = (cause: Error): void => {
      settled();
      reject(
        new AppError('server-unreachable', `${url} cannot be reached: ${cause.message}`, {
          hint: 'Is the peer running, and is its address right?',
          cause,
        }),
      );
    };
    socket.once('error', onError);
    socket.once('open', () => {
      socket.off('error', onError);
      settled();
      const { pingMs, clock } = options;
      resolve(webSocketDuplex(socket, raw as Socket, { remote: url, pingMs, clock }));
    });
  });
}
