import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { AppError, isErrorBody, isLoopback, systemClock } from '@backend.ai/core';

/**
 * The wire of an agent's data port, for both ends. Off loopback it is TLS 1.3; whoever issued the ticket has said which
 * certificate will answer, and no ticket is shown to another one.
 *
 * The caller sends one line of JSON, `{"ticket": …}`; the agent answers one line, `{"ok": true, …}` or
 * `{"ok": false, "error": …}`. What follows depends on what the ticket opens:
 *
 * - download: exactly `size` bytes, then the end of the stream;
 * - archive: a tar, then the end of the stream; one without the closing blocks of a tar is broken;
 * - upload: the caller sends exactly the announced bytes; the agent answers a second line when the file stands;
 * - port, service: bytes in both directions;
 * - terminal: frames in both directions, see `terminal-frames.ts`.
 */

export const dataPortHeadBytes = 4096;

export interface DataPortReply {
  readonly ok: true;
  /** With `download`: bytes that follow. */
  readonly size?: number | null;
}

export function encodeHead(head: object): string {
  return `${JSON.stringify(head)}\n`;
}

/**
 * The first line of a stream; what came behind it is put back. The stream is paused afterwards.
 * @throws AppError `connection-lost`, `payload-too-large`, `malformed-body`
 */
export function readHead(socket: Socket, maxBytes: number = dataPortHeadBytes): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    let seen: Buffer = Buffer.alloc(0);
    const settle = (error: AppError | undefined, value?: Record<string, unknown>): void => {
      socket.off('readable', onReadable);
      socket.off('end', onEnd);
      socket.off('close', onEnd);
      socket.off('error', onEnd);
      if (error) reject(error);
      else resolve(value ?? {});
    };
    const onEnd = (): void =>
      settle(new AppError('connection-lost', 'The data connection ended before its first line.'));
    const onReadable = (): void => {
      for (let chunk = socket.read() as Buffer | null; chunk; chunk = socket.read() as Buffer | null) {
        const searched = seen.length;
        seen = searched === 0 ? chunk : Buffer.concat([seen, chunk]);
        const end = seen.indexOf(0x0a, searched);
        if (end < 0 && seen.length <= maxBytes) continue;
        if (end < 0 || end > maxBytes) {
          settle(new AppError('payload-too-large', 'The first line of the data connection is too long.'));
          return;
        }
        const rest = seen.subarray(end + 1);
        // Listeners go first: what is put back belongs to the next reader.
        const line = parseLine(seen.toString('utf8', 0, end));
        settle(line ? undefined : new AppError('malformed-body', 'The data connection speaks another language.'), line);
        if (rest.length > 0) socket.unshift(rest);
        return;
      }
    };
    socket.on('readable', onReadable);
    socket.once('end', onEnd);
    socket.once('close', onEnd);
    socket.once('error', onEnd);
    if (socket.readableLength > 0) onReadable();
    else if (socket.readableEnded || socket.destroyed) onEnd();
  });
}

function parseLine(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

export interface DataChannel {
  /** Paused and without listeners; `allowHalfOpen`. */
  readonly socket: Socket;
  /** With a download: how many bytes will come. */
  readonly size: number | null;
}

export interface ConnectDataPortOptions {
  /** For connection and first answer; 10 s by default. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/** The parts of a ticket that say where and to whom it may be shown. */
export interface DataPortTarget {
  readonly ticket: string;
  /** host:port */
  readonly address: string;
  /** SHA-256 fingerprint of the certificate that must answer; absent: without TLS. */
  readonly certificate?: string | undefined;
}

/**
 * Redeems a ticket at an agent's data port.
 * @throws AppError `agent-unreachable`; `peer-rejected` when another certificate answers or the bytes would leave this
 *   machine in the clear; and whatever the agent refuses with
 */
export async function connectDataPort(
  { ticket, address, certificate }: DataPortTarget,
  { timeoutMs = 10_000, signal }: ConnectDataPortOptions = {},
): Promise<DataChannel> {
  const [, host = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  if (certificate === undefined && !isLoopback(host)) {
    throw new AppError('peer-rejected', `The data port ${address} speaks without TLS, and is on another machine.`, {
      hint: 'Configure TLS for the agent.',
    });
  }
  const target = { host, port: Number(port), allowHalfOpen: true };
  const socket =
    certificate === undefined
      ? connect(target)
      : connectTls({ ...target, minVersion: 'TLSv1.3', rejectUnauthorized: false });
  socket.setNoDelay(true);
  const abort = (): void => void socket.destroy();
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted) abort();
  const cancelTimer = systemClock.setTimer(timeoutMs, abort);
  try {
    if (socket instanceof TLSSocket) await requireCertificate(socket, certificate ?? '', address);
    socket.write(encodeHead({ ticket }));
    const reply = await readHead(socket);
    assertOk(reply);
    return { socket, size: typeof reply.size === 'number' ? reply.size : null };
  } catch (cause) {
    socket.on('error', () => {});
    socket.destroy();
    if (cause instanceof AppError && cause.code !== 'connection-lost') throw cause;
    if (signal?.aborted) throw new AppError('cancelled', 'The transfer was cancelled.', { cause });
    throw new AppError('agent-unreachable', `The data port ${address} does not answer.`, { cause });
  } finally {
    cancelTimer();
    signal?.removeEventListener('abort', abort);
  }
}

/** The certificate proves nothing by itself, so it may be self-signed: that it is the expected one does. */
async function requireCertificate(socket: TLSSocket, expected: string, address: string): Promise<void> {
  await once(socket, 'secureConnect');
  if (socket.getPeerCertificate().fingerprint256 === expected) return;
  throw new AppError('peer-rejected', `Another certificate than the agent's answers at ${address}.`, {
    hint: 'Does the address advertise.data lead to this agent?',
  });
}

function assertOk(reply: Record<string, unknown>): void {
  if (reply.ok === true) return;
  throw isErrorBody(reply.error)
    ? AppError.fromBody(reply.error)
    : new AppError('malformed-body', 'The data port answers with something unknown.');
}
