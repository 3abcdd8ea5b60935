import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { AppError, newRequestId, type RequestId } from '@backend.ai/core';
import { type Logger, runWithRequest } from '@backend.ai/telemetry';
import { toProblem } from './problems.ts';
import { findEdge, standingHeaders } from './request-edge.ts';

/** Answers by hand where there is no response object, or none may be used any more, and ends the connection. */
export function refuseConnection(socket: Duplex, status: number, error: AppError, requestId: RequestId): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const body = JSON.stringify(toProblem(error, requestId).body);
  const headers = {
    ...standingHeaders(requestId),
    'Content-Type': 'application/problem+json',
    'Content-Length': String(Buffer.byteLength(body)),
    Connection: 'close',
  };
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${head.join('')}\r\n${body}`, () => socket.destroy());
}

/** What Node's parser cannot read, or what did not arrive in time, before or during a request. */
export function onClientError(logger: Logger, error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || error.code === 'EPIPE') {
    socket.destroy();
    return;
  }
  const response = (socket as { _httpMessage?: ServerResponse<IncomingMessage> | null })._httpMessage;
  const edge = response ? findEdge(response.req) : undefined;
  const requestId = edge?.requestId ?? newRequestId();
  const { status, text } = describe(error.code);
  runWithRequest({ requestId }, () => logger.warn('malformed request refused', { status, cause: error.code }));
  if (response?.headersSent) {
    socket.destroy();
    return;
  }
  refuseConnection(socket, status, new AppError('invalid-input', text, { hint: 'Send HTTP/1.1.' }), requestId);
}

function describe(code: string | undefined): { status: number; text: string } {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return { status: 431, text: 'The request line and headers are too large.' };
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return { status: 408, text: 'The request did not arrive in time.' };
    default:
      return { status: 400, text: 'This is not a valid HTTP request.' };
  }
}
