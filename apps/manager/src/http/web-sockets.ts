import { type IncomingMessage, type RequestListener, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { AppError, newRequestId } from '@backend.ai/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type WebSocket, WebSocketServer } from 'ws';
import { refuseConnection } from './malformed.ts';
import { edgeOf, findEdge } from './request-edge.ts';

/**
 * An upgrade passes admission and routing like any other request, so that every refusal is an ordinary HTTP answer; the
 * route then takes the connection over with `acceptWebSocket`.
 */

/** Of one message to us. */
export const maxMessageBytes = 16 * 1024 * 1024;
/** So long after the last byte the system asks whether the other side is still there: one that vanished lets go. */
const keepAliveMs = 30_000;
/** A peer that does not answer our closing has this long. */
const closingMs = 2_000;

interface Upgrade {
  readonly socket: Duplex;
  readonly head: Buffer;
}

const upgrades = new WeakMap<IncomingMessage, Upgrade>();
const acceptor = new WebSocketServer({
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: maxMessageBytes,
});
acceptor.on('headers', (headers, request) => {
  const requestId = findEdge(request)?.requestId;
  if (requestId !== undefined) headers.push(`X-Backend-Request-ID: ${requestId}`);
});

/** For the event `upgrade` of a server: `accept` answers it as a request. */
export function onUpgrade(accept: RequestListener, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  // Node has taken its own listeners away.
  socket.on('error', () => socket.destroy());
  if (request.method !== 'GET' || request.headers.upgrade?.toLowerCase() !== 'websocket') {
    const error = new AppError('invalid-input', 'The connection cannot be upgraded to this protocol.');
    refuseConnection(socket, 400, error, newRequestId());
    return;
  }
  upgrades.set(request, { socket, head });
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(socket as Parameters<ServerResponse['assignSocket']>[0]);
  response.once('finish', () => socket.end(() => socket.destroy()));
  accept(request, response);
}

/** @throws AppError `invalid-input` when the request is no upgrade that can be accepted */
export function requireUpgrade(request: FastifyRequest): void {
  const key = request.headers['sec-websocket-key'];
  const version = request.headers['sec-websocket-version'];
  if (upgrades.has(request.raw) && /^[+/0-9A-Za-z]{22}==$/.test(key ?? '') && (version === '13' || version === '8'))
    return;
  throw new AppError('invalid-input', 'This URL is for WebSockets.', { hint: 'Send an upgrade to WebSocket 13.' });
}

/** Takes the connection over. It is closed with 1001 when the server shuts down, after `lastMessage` if there is one. */
export function acceptWebSocket(
  request: FastifyRequest,
  reply: FastifyReply,
  setTimer: SetTimer,
  lastMessage?: string,
): WebSocket {
  requireUpgrade(request);
  const { socket, head } = upgrades.get(request.raw) as Upgrade;
  const edge = edgeOf(request);
  let accepted: WebSocket | undefined;
  reply.hijack();
  acceptor.handleUpgrade(request.raw, socket, head, (webSocket) => {
    accepted = webSocket;
  });
  if (!accepted) throw new AppError('connection-lost', 'The caller went away.');
  const webSocket: WebSocket = accepted;
  webSocket.on('error', () => webSocket.terminate());
  // Not with pings: who is told to read slowly does not answer them.
  if (socket instanceof Socket) socket.setKeepAlive(true, keepAliveMs);
  edge.isUpgraded = true;
  edge.endsOnShutdown = true;
  const onAbort = (): void => {
    if (lastMessage !== undefined && webSocket.readyState === webSocket.OPEN) webSocket.send(lastMessage);
    closeWebSocket(webSocket, 1001, 'The server is shutting down.', setTimer);
  };
  edge.signal.addEventListener('abort', onAbort, { once: true });
  if (edge.aborted) onAbort();
  return webSocket;
}

export type SetTimer = (ms: number, callback: () => void) => () => void;

/** Says good-bye, and goes when that is not answered. */
export function closeWebSocket(webSocket: WebSocket, code: number, reason: string, setTimer: SetTimer): void {
  webSocket.close(code, Buffer.from(reason).subarray(0, 120).toString());
  const cancel = setTimer(closingMs, () => webSocket.terminate());
  webSocket.once('close', cancel);
  if (webSocket.readyState === webSocket.CLOSED) cancel();
}
