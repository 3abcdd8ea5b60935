import { AppError } from '@backend.ai/core';
import type { WebSocket } from 'ws';
import type { Transport } from './transport.ts';
import { openWebSocket } from './web-socket.ts';

export interface TerminalOptions {
  /** A session may have several: lowercase letters, digits and `-`; `main` by itself. */
  readonly name?: string | undefined;
  readonly rows?: number | undefined;
  readonly cols?: number | undefined;
  /** What programs find in TERM. */
  readonly term?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface TerminalEnd {
  /** Of the shell; null when the connection ended while the shell goes on. */
  readonly exitCode: number | null;
}

/** A connection to a terminal of a session. Iterating gives its output. */
export class Terminal implements AsyncIterable<Uint8Array> {
  /** Resolves when the shell has ended or `detach` was called. @throws AppError `connection-lost` */
  readonly ended: Promise<TerminalEnd>;
  readonly #socket: WebSocket;
  readonly #unread: Buffer[] = [];
  #over = false;
  #detached = false;
  #wake: () => void = () => {};

  static async open(transport: Transport, session: string, options: TerminalOptions): Promise<Terminal> {
    const { name, rows, cols, term, signal } = options;
    const query = Object.entries({ terminal: name, rows, cols, term })
      .flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${encodeURIComponent(value)}`]))
      .join('&');
    const target = `/stream/session/${encodeURIComponent(session)}/pty${query === '' ? '' : `?${query}`}`;
    return new Terminal(await openWebSocket(transport, target, signal));
  }

  /** Private, so that users of the types need none of `ws`. */
  private constructor(socket: WebSocket) {
    this.#socket = socket;
    this.ended = new Promise((resolve, reject) => {
      socket.once('close', (code, reason) => {
        this.#over = true;
        this.#wake();
        const said = parse(reason.toString('utf8'));
        if (code === 1000 && typeof said?.exitCode === 'number') resolve({ exitCode: said.exitCode });
        else if (this.#detached) resolve({ exitCode: null });
        else
          reject(new AppError('connection-lost', 'The connection to the terminal was lost.', { hint: reconnectHint }));
      });
    });
    this.ended.catch(() => {});
    socket.on('message', (data) => {
      const message = parse(String(data));
      if (message?.type !== 'out' || typeof message.data !== 'string') return;
      this.#unread.push(Buffer.from(message.data, 'base64'));
      if (this.#unread.length > highWater) socket.pause();
      this.#wake();
    });
    socket.resume();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const chunk = this.#unread.shift();
      if (chunk) {
        if (this.#unread.length === 0) this.#socket.resume();
        yield chunk;
      } else if (this.#over) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  /** As if it was typed. */
  write(data: string | Uint8Array): void {
    this.#send({ type: 'stdin', chars: Buffer.from(data as Uint8Array).toString('base64') });
  }

  resize(rows: number, cols: number): void {
    this.#send({ type: 'resize', rows, cols });
  }

  /** Ends the shell and begins with another one. */
  restart(): void {
    this.#send({ type: 'restart' });
  }

  /** Ends the connection; the shell goes on. */
  detach(): void {
    this.#detached = true;
    this.#socket.close(1000);
  }

  #send(message: object): void {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}

const highWater = 64;
const reconnectHint = 'The terminal goes on if its session does: connect again to see its last output.';

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
