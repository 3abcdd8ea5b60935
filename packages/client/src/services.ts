import type { Duplex } from 'node:stream';
import type { Transport } from './transport.ts';
import { openWebSocket } from './web-socket.ts';

export interface StartServiceOptions {
  /** Variables that the image's definition allows. */
  readonly envs?: Record<string, string> | undefined;
  /** Arguments that the image's definition allows; null: without a value. */
  readonly arguments?: Record<string, string | string[] | null> | undefined;
}

export interface ConnectOptions extends StartServiceOptions {
  /** One of the service's ports; its first by itself. */
  readonly port?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export async function connectToService(
  transport: Transport,
  session: string,
  service: string,
  { port, envs, arguments: given, signal }: ConnectOptions,
): Promise<Duplex> {
  const query = Object.entries({
    app: service,
    port,
    envs: envs && JSON.stringify(envs),
    arguments: given && JSON.stringify(given),
  })
    .flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${encodeURIComponent(value)}`]))
    .join('&');
  const target = `/stream/session/${encodeURIComponent(session)}/tcpproxy?${query}`;
  const socket = await openWebSocket(transport, target, signal);
  const { createWebSocketStream } = await import('ws');
  const stream = createWebSocketStream(socket);
  socket.resume();
  return stream;
}
