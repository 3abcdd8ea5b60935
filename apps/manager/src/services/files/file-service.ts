import type { Socket } from 'node:net';
import { type Readable, Transform, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { CallContext } from '@backend.ai/contract';
import { AppError, isErrorBody } from '@backend.ai/core';
import { readHead } from '@backend.ai/rpc';
import type { SessionDataPort } from '../kernels/session-data-port.ts';
import { actorOf, type SessionService } from '../sessions/session-service.ts';

/**
 * Bytes in and out of a session's home folder. Nothing is gathered here: they flow between the caller and the agent's
 * data port, no faster than the slower side. What arrives incomplete is an error, never a shorter file.
 */
export class FileService {
  readonly #dataPort: SessionDataPort;
  readonly #sessions: Pick<SessionService, 'recorded'>;

  constructor(dataPort: SessionDataPort, sessions: Pick<SessionService, 'recorded'>) {
    this.#dataPort = dataPort;
    this.#sessions = sessions;
  }

  /** Resolves when the file stands under its name. @throws AppError `session-not-running`, `invalid-path` … */
  async upload(
    session: string,
    path: string,
    target: { readonly size: number; readonly mode: number },
    stream: Readable,
    ctx: CallContext,
  ): Promise<void> {
    const request = { session, action: 'session:use', changes: { upload: path, size: target.size } } as const;
    const work = (): Promise<void> => this.#upload(session, path, target, stream, ctx);
    await this.#sessions.recorded(request, actorOf(ctx), work);
  }

  async #upload(
    session: string,
    path: string,
    target: { readonly size: number; readonly mode: number },
    stream: Readable,
    ctx: CallContext,
  ): Promise<void> {
    const { socket } = await this.#dataPort.open(session, { kind: 'upload', path, ...target }, ctx);
    const stopped = new AbortController();
    // The agent speaks when it has all bytes, or before that when it refuses.
    const reply = readHead(socket);
    const stop = (): void => stopped.abort();
    reply.then((said) => isRefusal(said) && stop(), stop);
    try {
      const sending = pipeline(stream, exactly(target.size), intoSocket(socket), { signal: stopped.signal });
      const refusedEarly = await Promise.race([sending.then(() => false), reply.then(isRefusal, () => false)]);
      if (refusedEarly) sending.catch(() => {});
      else await sending.catch(async (error: unknown) => throwRefusal(await reply.catch(() => ({})), error));
      throwRefusal(await reply, undefined);
    } finally {
      reply.catch(() => {});
      dispose(socket);
    }
  }

  /** Resolves when the first byte may be read. @throws AppError `file-not-found`, `invalid-path` … */
  async download(session: string, path: string, ctx: CallContext): Promise<{ stream: Readable; size: number | null }> {
    const { socket, size } = await this.#dataPort.open(session, { kind: 'download', path }, ctx);
    return { stream: read(socket, size === null ? undefined : exactly(size), ctx.signal), size };
  }

  /** A tar of the file or folder. `maxBytes` 0 is unlimited. @throws AppError `payload-too-large` and those above */
  async archive(session: string, path: string, maxBytes: number, ctx: CallContext): Promise<{ stream: Readable }> {
    const { socket } = await this.#dataPort.open(session, { kind: 'archive', path, maxBytes }, ctx);
    return { stream: read(socket, wholeTar(), ctx.signal) };
  }
}

function read(socket: Socket, check: Transform | undefined, signal: AbortSignal | undefined): Readable {
  // An aborted caller reads no more; the socket goes with the stream.
  const abort = (): void => void socket.destroy(new AppError('cancelled', 'The transfer was cancelled.'));
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted) abort();
  const checked = check ?? new Transform({ transform: (chunk, _encoding, done) => done(null, chunk) });
  void pipeline(socket, checked)
    .catch((error: unknown) => checked.destroy(asLost(error)))
    .finally(() => {
      signal?.removeEventListener('abort', abort);
      dispose(socket);
    });
  return checked;
}

function asLost(error: unknown): AppError {
  if (error instanceof AppError) return error;
  return new AppError('connection-lost', 'The transfer from the agent broke off.', { cause: error });
}

/** Passes exactly so many bytes, or fails. */
function exactly(size: number): Transform {
  let passed = 0;
  const wrong = (): AppError =>
    new AppError('connection-lost', `The transfer has not the announced ${size} bytes.`, { data: { size, passed } });
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      passed += chunk.length;
      if (passed > size) done(wrong());
      else done(null, chunk);
    },
    flush: (done) => (passed === size ? done() : done(wrong())),
  });
}

const tarEndBytes = 1024;

/** A tar ends with two blocks of zeros; one without was cut off. */
function wholeTar(): Transform {
  let tail: Buffer = Buffer.alloc(0);
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      tail =
        chunk.length >= tarEndBytes
          ? chunk.subarray(-tarEndBytes)
          : Buffer.concat([tail, chunk]).subarray(-tarEndBytes);
      done(null, chunk);
    },
    flush(done) {
      const whole = tail.length === tarEndBytes && tail.every((byte) => byte === 0);
      done(whole ? null : new AppError('connection-lost', 'The archive from the agent broke off.'));
    },
  });
}

/** Writes without taking over the reading side, which waits for the agent's answer. */
function intoSocket(socket: Socket): Writable {
  return new Writable({
    write: (chunk, _encoding, done) => void socket.write(chunk, done),
    final: (done) => void socket.end(done),
  });
}

function isRefusal(reply: Record<string, unknown>): boolean {
  return reply.ok !== true;
}

/** Throws what the agent said, else `otherwise`, else nothing. */
function throwRefusal(reply: Record<string, unknown>, otherwise: unknown): void {
  if (isErrorBody(reply.error)) throw AppError.fromBody(reply.error);
  if (otherwise !== undefined) throw asLost(otherwise);
  if (reply.ok !== true) throw new AppError('connection-lost', 'The agent did not confirm the upload.');
}

function dispose(socket: Socket): void {
  socket.on('error', () => {});
  socket.destroy();
}
