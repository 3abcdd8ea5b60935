import { X509Certificate } from 'node:crypto';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createServer as createTlsServer } from 'node:tls';
import { AppError, type Clock, hasCode, newRequestId } from '@backend.ai/core';
import { encodeHead, readHead } from '@backend.ai/rpc';
import { BackgroundTasks, type Logger, runWithRequest } from '@backend.ai/telemetry';
import type { KernelHandle } from '../backends/backend.ts';
import type { HomeFiles } from '../files/home-files.ts';
import type { Grant, Tickets } from './tickets.ts';

export interface DataPortOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** PEM texts; mandatory off loopback. */
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  readonly tickets: Tickets;
  /** @throws AppError `kernel-not-found` */
  readonly kernelOf: (kernelId: string) => KernelHandle;
  readonly clock: Clock;
  readonly logger: Logger;
}

const headDeadlineMs = 5_000;
/** A transfer that moves nothing for so long is given up. */
const idleMs = 120_000;
/** Connections that have not shown a ticket yet. */
const mostStrangers = 256;

/** Carries bytes into and out of kernels; see `data-port.ts` of the rpc package for the wire. */
export class DataPort {
  readonly #options: DataPortOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #tasks: BackgroundTasks;
  #strangers = 0;

  constructor(options: DataPortOptions) {
    this.#options = options;
    this.#tasks = new BackgroundTasks(options.logger);
    const { tls } = options;
    const accept = (socket: Socket): void => this.#accept(socket);
    const common = { allowHalfOpen: true, noDelay: true };
    this.#server = tls
      ? createTlsServer({ ...common, ...tls, minVersion: 'TLSv1.3', handshakeTimeout: headDeadlineMs }, accept)
      : createServer(common, accept);
    if (tls) this.#server.on('tlsClientError', (_error, socket: Socket) => socket.destroy());
  }

  /** What callers must meet, see `TransferTicket`; undefined without TLS. @throws AppError `config-invalid` */
  get certificate(): string | undefined {
    const { tls } = this.#options;
    return tls && fingerprintOf(tls.cert);
  }

  /** host:port. @throws AppError `port-in-use` */
  listen(): Promise<string> {
    const { host, port } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) => {
        const data = { host, port };
        reject(
          cause.code === 'EADDRINUSE'
            ? new AppError('port-in-use', `Port ${port} on ${host} is in use.`, { data, cause })
            : new AppError('config-invalid', `The agent cannot listen for data on ${host}:${port}.`, { data, cause }),
        );
      });
      this.#server.listen(port, host, () => {
        const bound = (this.#server.address() as AddressInfo).port;
        resolve(`${host.includes(':') ? `[${host}]` : host}:${bound}`);
      });
    });
  }

  async close(): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await this.#tasks.drain();
  }

  #accept(socket: Socket): void {
    socket.on('error', () => {});
    if (this.#strangers >= mostStrangers) return void socket.destroy();
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    this.#tasks.start('data connection', () => this.#serve(socket), newRequestId());
  }

  async #serve(socket: Socket): Promise<void> {
    const { tickets, clock } = this.#options;
    this.#strangers += 1;
    const cancel = clock.setTimer(headDeadlineMs, () => socket.destroy());
    let grant: Grant;
    try {
      grant = tickets.redeem((await readHead(socket)).ticket);
    } catch (error) {
      return refuse(socket, error);
    } finally {
      cancel();
      this.#strangers -= 1;
    }
    await runWithRequest({ requestId: grant.requestId }, () => this.#transfer(socket, grant));
  }

  async #transfer(socket: Socket, grant: Grant): Promise<void> {
    const { logger } = this.#options;
    const { kernelId, transfer } = grant;
    try {
      await this.#perform(socket, grant);
    } catch (error) {
      const fields = { kernel_id: kernelId, kind: transfer.kind, error };
      // The other end going away is its own affair.
      if (hasCode(AppError.from(error), 'internal') && !socket.destroyed) logger.error('transfer failed', fields);
      else logger.debug('transfer refused', fields);
      refuse(socket, error);
    }
  }

  async #perform(socket: Socket, { kernelId, transfer }: Grant): Promise<void> {
    const kernel = this.#options.kernelOf(kernelId);
    socket.setTimeout(idleMs, () => socket.destroy());
    switch (transfer.kind) {
      case 'download': {
        const { size, stream } = filesOf(kernel).read(transfer.path);
        return await send(socket, stream, size);
      }
      case 'archive':
        return await send(socket, await filesOf(kernel).archive(transfer.path, transfer.maxBytes), null);
      case 'upload':
        return await receive(socket, filesOf(kernel), transfer);
      case 'port':
      case 'service':
      case 'terminal': {
        const inner = await (transfer.kind === 'terminal' ? kernel.openTerminal(transfer) : kernel.connect(transfer));
        // A terminal may be silent for hours.
        socket.setTimeout(0);
        return await splice(socket, inner);
      }
    }
  }
}

function fingerprintOf(pem: string): string {
  try {
    return new X509Certificate(pem).fingerprint256;
  } catch (cause) {
    throw new AppError('config-invalid', 'The TLS certificate of the agent is not one in PEM.', { cause });
  }
}

function filesOf(kernel: KernelHandle): HomeFiles {
  if (kernel.files) return kernel.files;
  throw new AppError('unsupported-feature', 'A simulated kernel has no files.');
}

function refuse(socket: Socket, thrown: unknown): void {
  if (socket.destroyed) return;
  // Behind bytes that were sent already a line would look like more of them.
  if (streaming.has(socket)) return void socket.destroy();
  socket.end(encodeHead({ ok: false, error: AppError.from(thrown).toBody() }));
  // What still comes is thrown away, so that the answer is not lost with a reset; not for ever.
  socket.resume();
  socket.setTimeout(headDeadlineMs, () => socket.destroy());
}

const streaming = new WeakSet<Socket>();

async function send(socket: Socket, stream: Readable, size: number | null): Promise<void> {
  socket.write(encodeHead({ ok: true, size }));
  streaming.add(socket);
  let sent = 0;
  stream.on('data', (chunk: Buffer) => {
    sent += chunk.length;
  });
  stream.pause();
  socket.resume();
  try {
    await pipeline(stream, socket, { end: false });
    if (size !== null && sent !== size) throw new AppError('state-conflict', 'The file became shorter meanwhile.');
  } catch (error) {
    socket.destroy();
    throw error;
  }
  socket.end();
}

async function receive(
  socket: Socket,
  files: HomeFiles,
  { path, size, mode }: { readonly path: string; readonly size: number; readonly mode: number },
): Promise<void> {
  const upload = await files.write(path, size, mode);
  try {
    socket.write(encodeHead({ ok: true }));
    if (size > 0) {
      for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
        await upload.write(chunk as Buffer);
        if (upload.missing === 0) break;
      }
    }
    // One byte too many is an error, too, if it is here already.
    const extra = socket.read() as Buffer | null;
    if (extra) await upload.write(extra);
  } catch (error) {
    await upload.discard();
    throw error;
  }
  await upload.commit();
  socket.end(encodeHead({ ok: true }));
  socket.resume();
}

async function splice(socket: Socket, inner: Duplex): Promise<void> {
  socket.write(encodeHead({ ok: true }));
  streaming.add(socket);
  try {
    await Promise.all([pipeline(socket, inner), pipeline(inner, socket)]);
  } finally {
    inner.destroy();
    socket.destroy();
  }
}
