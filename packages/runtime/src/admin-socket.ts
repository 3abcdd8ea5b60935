import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { AppError, isErrorBody, newRequestId, parseRequestId, type RequestId } from '@backend.ai/core';
import { type Logger, runWithRequest } from '@backend.ai/telemetry';
import { listenPrivately, withSocketPath } from './unix-socket.ts';

/**
 * A service's local door for operators on the same machine: a unix socket only its owner may open. One JSON line asks,
 * one answers: `{ method, params, request_id }` → `{ result, request_id }` or `{ error, request_id }`.
 */
export type AdminHandlers = Readonly<Record<string, (params: Record<string, unknown>) => unknown>>;

const maxLine = 1024 * 1024;

/** @param component `manager`, for the socket of a manager. */
export function adminSocketPath(runDir: string, component: string): string {
  return join(runDir, `${component}.sock`);
}

export class AdminSocket {
  readonly #path: string;
  readonly #handlers: AdminHandlers;
  readonly #logger: Logger;
  readonly #connections = new Set<Socket>();
  readonly #answering = new Set<Promise<void>>();
  #server: Server | undefined;

  constructor(path: string, handlers: AdminHandlers, logger: Logger) {
    this.#path = path;
    this.#handlers = handlers;
    this.#logger = logger;
  }

  async start(): Promise<void> {
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    rmSync(this.#path, { force: true });
    const server = createServer((socket) => this.#serve(socket));
    await listenPrivately(server, this.#path);
    chmodSync(this.#path, 0o600);
    this.#server = server;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    // Whoever asked for the stop learns that it was heard.
    await Promise.all(this.#answering);
    for (const socket of this.#connections) socket.destroySoon();
    await closed;
    rmSync(this.#path, { force: true });
  }

  #serve(socket: Socket): void {
    this.#connections.add(socket);
    socket.on('close', () => this.#connections.delete(socket));
    socket.on('error', () => socket.destroy());
    let received = 0;
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received > maxLine) socket.destroy();
    });
    // The lines of a socket fail when it does, as when an answer comes to somebody who waits no longer.
    const lines = createInterface({ input: socket }).on('error', () => socket.destroy());
    lines.on('line', (line) => {
      received = 0;
      const answering = this.#reply(socket, line).finally(() => this.#answering.delete(answering));
      this.#answering.add(answering);
    });
  }

  async #reply(socket: Socket, line: string): Promise<void> {
    // Not in this turn: the reply must be among those that a stop waits for.
    await Promise.resolve();
    const answer = await this.#answer(line);
    if (socket.writable) socket.write(`${JSON.stringify(answer)}\n`);
  }

  async #answer(line: string): Promise<unknown> {
    let requestId: RequestId = newRequestId();
    try {
      const message: unknown = JSON.parse(line);
      const { method, params, request_id } = (message ?? {}) as Record<string, unknown>;
      requestId = parseRequestId(request_id) ?? requestId;
      const handler = typeof method === 'string' && Object.hasOwn(this.#handlers, method) && this.#handlers[method];
      if (!handler) throw new AppError('route-not-found', `This service has no method "${String(method)}".`);
      const given = typeof params === 'object' && params !== null ? (params as Record<string, unknown>) : {};
      const result = await runWithRequest({ requestId, actor: 'local-operator' }, async () => handler(given));
      return { result: result ?? null, request_id: requestId };
    } catch (thrown) {
      const error =
        thrown instanceof SyntaxError ? new AppError('malformed-body', 'Not a JSON line.') : AppError.from(thrown);
      if (error.code === 'internal') this.#logger.error('admin request failed', { error: thrown });
      return { error: error.toBody(requestId), request_id: requestId };
    }
  }
}

/**
 * That there was no answer, as opposed to what a service answers: nobody listens (`absent`), it says nothing within the
 * time (`silent`), or it ended meanwhile (`ended`).
 */
export class NoAnswer extends AppError {
  readonly why: 'absent' | 'silent' | 'ended';

  constructor(why: NoAnswer['why'], options: { readonly cause?: unknown; readonly requestId: RequestId }) {
    if (why === 'silent') super('deadline-exceeded', 'The service took too long to answer.', options);
    else super('server-unreachable', 'The service does not answer.', options);
    this.why = why;
  }
}

/** @throws NoAnswer (`server-unreachable`, `deadline-exceeded`); AppError what the service answers */
export async function callAdminSocket<T>(
  path: string,
  method: string,
  params: Record<string, unknown> = {},
  options: { requestId?: RequestId; timeoutMs?: number } = {},
): Promise<T> {
  const requestId = options.requestId ?? newRequestId();
  const socket = withSocketPath(path, (short) => createConnection(short));
  try {
    const line = await new Promise<string>((resolve, reject) => {
      let why: 'absent' | 'ended' = 'absent';
      const unreachable = (cause?: unknown): void => reject(new NoAnswer(why, { cause, requestId }));
      socket.once('connect', () => {
        why = 'ended';
      });
      socket.setTimeout(options.timeoutMs ?? 10_000, () => reject(new NoAnswer('silent', { requestId })));
      socket.once('error', unreachable);
      socket.once('close', () => unreachable());
      createInterface({ input: socket }).once('line', resolve).on('error', unreachable);
      socket.write(`${JSON.stringify({ method, params, request_id: requestId })}\n`);
    });
    const answer = JSON.parse(line) as { result?: T; error?: unknown };
    if (isErrorBody(answer.error)) throw AppError.fromBody(answer.error);
    return answer.result as T;
  } finally {
    socket.destroy();
  }
}
