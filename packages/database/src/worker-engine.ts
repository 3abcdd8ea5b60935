import { existsSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { AppError, deferred, systemClock } from '@backend.ai/core';

/** What the worker says besides protocol bytes. */
type WorkerNotice = { readonly ready: unknown } | 'closed' | { readonly failure: string };

/** The worker's file next to a bundle, or in this package seen from `src` and `dist` alike. */
export function defaultWorkerUrl(): URL {
  const beside = new URL('./pglite-worker.mjs', import.meta.url);
  return existsSync(fileURLToPath(beside)) ? beside : new URL('../worker/pglite-worker.mjs', import.meta.url);
}

/**
 * PGlite's compiled program, by the file of the worker that compiled it. What V8 makes of it while it runs serves all threads
 * that have it: a database after the first one of a process starts at half the cost.
 */
const programs = new Map<string, unknown>();

/**
 * PGlite in its own thread, seen as a PostgreSQL server that accepts one connection: `connect` gives the byte stream
 * that a client library takes for its socket. A query never blocks the thread that asks.
 */
export class WorkerEngine {
  readonly #worker: Worker;
  readonly #ready = deferred<unknown>();
  readonly #ended = deferred();
  #failure: Error | undefined;
  #socket: EngineSocket | undefined;
  #unanswered = 0;

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.on('message', (message: Uint8Array | WorkerNotice) => this.#receive(message));
    worker.on('error', (error: unknown) => this.#end(error));
    worker.on('exit', (code) => this.#end(new Error(`The database thread exited with code ${code}.`)));
  }

  /**
   * @param dataDir Directory on disk, or null for a database in memory.
   * @throws AppError `internal` when PGlite does not start
   */
  static async start(dataDir: string | null, workerUrl: URL = defaultWorkerUrl()): Promise<WorkerEngine> {
    // No flags of the parent: loaders for TypeScript would only slow the worker's start down.
    const workerData = { dataDir, program: programs.get(workerUrl.href) };
    const engine = new WorkerEngine(new Worker(workerUrl, { workerData, execArgv: [] }));
    try {
      programs.set(workerUrl.href, await engine.#ready.promise);
    } catch (cause) {
      await engine.#worker.terminate();
      throw new AppError('internal', 'The embedded database did not start.', { cause, detail: { dataDir } });
    }
    return engine;
  }

  /**
   * A new connection; the former one, if any, must have ended.
   *
   * @throws AppError `internal` while what the former one asked for is not answered: it would take those answers for its own
   */
  connect(): Duplex {
    if (this.#failure) throw this.#failure;
    if (this.#unanswered > 0)
      throw new AppError('internal', 'The embedded database is still at work for a former connection.');
    this.#socket = new EngineSocket((bytes) => {
      this.#unanswered += 1;
      this.#worker.postMessage(bytes, [bytes.buffer as ArrayBuffer]);
    });
    return this.#socket;
  }

  /** Ends PGlite in order, or after `timeoutMs` by force (which is as safe as a crash). */
  async close(timeoutMs = 5_000): Promise<void> {
    const cancel = systemClock.setTimer(timeoutMs, () => void this.#worker.terminate());
    if (!this.#failure) this.#worker.postMessage('close');
    await this.#ended.promise;
    cancel();
    await this.#worker.terminate();
  }

  #receive(message: Uint8Array | WorkerNotice): void {
    if (message instanceof Uint8Array) {
      this.#unanswered -= 1;
      this.#socket?.receive(message);
    } else if (message === 'closed') {
      this.#end(new Error('The embedded database is closed.'));
    } else if ('ready' in message) {
      this.#ready.resolve(message.ready);
    } else {
      this.#end(new Error(message.failure));
    }
  }

  #end(reason: unknown): void {
    this.#failure ??= reason instanceof Error ? reason : new Error(String(reason));
    this.#ready.reject(this.#failure);
    this.#ended.resolve();
    this.#socket?.destroy(this.#failure);
  }
}

const terminateMessage = 'X'.charCodeAt(0);

/** Each write is a whole number of protocol messages, because that is how postgres.js fills its buffer. */
class EngineSocket extends Duplex {
  /** postgres.js asks for the state as it would of a `net.Socket`. */
  readonly readyState = 'open';
  readonly #send: (bytes: Uint8Array) => void;

  constructor(send: (bytes: Uint8Array) => void) {
    super();
    this.#send = send;
  }

  receive(bytes: Uint8Array): void {
    if (!this.destroyed) this.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    // The end of a connection must not end the only session that PGlite has. The copy goes to the other thread:
    // postgres.js keeps using the memory of its chunk.
    if (chunk[0] !== terminateMessage) this.#send(new Uint8Array(chunk));
    done();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.push(null);
    done();
    this.destroy();
  }
}
