import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { checkAccessLevels, type PeerKind } from '@backend.ai/contract';
import { AppError, type Clock, hasCode, isLoopback, newRequestId, systemClock } from '@backend.ai/core';
import { BackgroundTasks, failureFields, type Logger, runWithRequest } from '@backend.ai/telemetry';
import type { AnyTRPCRouter } from '@trpc/server';
import { WebSocketServer } from 'ws';
import type { Duplex } from './duplex.ts';
import { acceptPeer } from './handshake.ts';
import type { JoiningPeer, PeerDirectory, PeerIdentity } from './identity.ts';
import { listenInProcess } from './in-process-duplex.ts';
import { ServerConnection } from './server-connection.ts';
import { webSocketDuplex } from './websocket-duplex.ts';

export interface RpcLimits {
  /** One request, answer or item, encoded. */
  readonly maxFrameBytes?: number;
  /** Operations of one connection that run at the same time; further ones get `rate-limited`. */
  readonly maxConcurrent?: number;
  /** Connections that have not proved themselves yet; further ones are closed. */
  readonly maxHandshakes?: number;
  /** A dead line is noticed within twice this time. */
  readonly pingMs?: number;
}

export const defaultLimits: Required<RpcLimits> = {
  maxFrameBytes: 16 * 1024 * 1024,
  maxConcurrent: 1_024,
  maxHandshakes: 256,
  pingMs: 10_000,
};

export interface RpcServerOptions {
  readonly router: AnyTRPCRouter;
  readonly identity: PeerIdentity;
  readonly directory: PeerDirectory;
  /** Kinds of peers that may connect at all. */
  readonly allow: readonly PeerKind[];
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly limits?: RpcLimits;
}

export interface ListenOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** PEM texts. Mandatory off loopback. Peers authenticate by their own keys: the certificate may be self-signed. */
  readonly tls?: { readonly cert: string; readonly key: string };
}

export interface RpcAddress {
  readonly host: string;
  readonly port: number;
  /** For `createRpcClient`. */
  readonly address: string;
}

export interface RpcServer {
  /** @throws AppError `config-invalid`, `port-in-use` */
  listenWebSocket(options: ListenOptions): Promise<RpcAddress>;
  /** @throws AppError `port-in-use` */
  listenInProcess(name: string): { readonly address: string };
  /** Whose connections are open, one entry for each. */
  connected(): readonly JoiningPeer[];
  /** Cuts the connections of peers that are not known any more, at once: those revoked, and those with another key now. */
  cutPeers(isKnown: (peer: JoiningPeer) => boolean): void;
  /** Refuses new connections and operations, gives running ones `graceMs`, then closes everything. */
  close(options: { readonly graceMs: number }): Promise<void>;
}

/** @throws AppError `config-invalid` when a procedure does not state who may call it */
export function createRpcServer(options: RpcServerOptions): RpcServer {
  checkAccessLevels(options.router);
  return new Server(options);
}

class Server implements RpcServer {
  readonly #options: RpcServerOptions;
  readonly #clock: Clock;
  readonly #limits: Required<RpcLimits>;
  readonly #handshakes: BackgroundTasks;
  readonly #connections = new Set<ServerConnection>();
  readonly #pending = new Set<Duplex>();
  readonly #stopListening: Array<() => void> = [];
  #closing: Promise<void> | undefined;
  #onConnectionClosed: (() => void) | undefined;

  constructor(options: RpcServerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#handshakes = new BackgroundTasks(options.logger);
  }

  async listenWebSocket({ host, port, tls }: ListenOptions): Promise<RpcAddress> {
    this.#assertOpen();
    if (!tls && !isLoopback(host))
      throw new AppError(
        'config-invalid',
        `Serving peers on ${host} needs TLS: it can be reached from other machines.`,
        {
          hint: 'Configure a certificate and key, or listen on 127.0.0.1.',
        },
      );
    const http = tls ? createHttpsServer({ ...tls, minVersion: 'TLSv1.3' }) : createHttpServer();
    http.on('request', (_request, response) => response.writeHead(426, { Upgrade: 'websocket' }).end());
    const sockets = new WebSocketServer({
      server: http,
      perMessageDeflate: false,
      // A batch may exceed a frame; a frame above the limit is refused by itself, not with the connection.
      maxPayload: this.#limits.maxFrameBytes * 4,
    });
    sockets.on('error', () => {}); // The same errors arrive at `http`.
    sockets.on('connection', (socket, request) => {
      const { remoteAddress, remotePort } = request.socket;
      // Of one that is gone again already nobody knows it.
      const remote = remoteAddress === undefined ? 'a peer' : `${remoteAddress}:${remotePort}`;
      const raw = request.socket as Socket;
      this.#accept(webSocketDuplex(socket, raw, { remote, pingMs: this.#limits.pingMs, clock: this.#clock }));
    });
    await listen(http, host, port);
    http.on('error', (error) => this.#options.logger.error('rpc listener failed', { host, port, error }));
    const bound = (http.address() as AddressInfo).port;
    this.#stopListening.push(() => {
      sockets.close();
      http.close();
      http.closeAllConnections();
    });
    const shown = host.includes(':') ? `[${host}]` : host;
    return { host, port: bound, address: `${tls ? 'wss' : 'ws'}://${shown}:${bound}` };
  }

  listenInProcess(name: string): { readonly address: string } {
    this.#assertOpen();
    this.#stopListening.push(listenInProcess(name, (duplex) => this.#accept(duplex)));
    return { address: `inproc:${name}` };
  }

  connected(): readonly JoiningPeer[] {
    return [...this.#connections].map(({ peer }) => peer);
  }

  cutPeers(isKnown: (peer: JoiningPeer) => boolean): void {
    for (const connection of this.#connections) if (!isKnown(connection.peer)) connection.terminate();
  }

  close({ graceMs }: { readonly graceMs: number }): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    for (const stop of this.#stopListening) stop();
    for (const duplex of this.#pending) duplex.terminate();
    await Promise.all([...this.#connections].map((connection) => connection.drain(graceMs)));
    await this.#handshakes.drain();
    const goodbyesMs = 1_500;
    await this.#untilNoConnections(goodbyesMs);
    for (const connection of this.#connections) connection.terminate();
  }

  #untilNoConnections(limitMs: number): Promise<void> {
    if (this.#connections.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#clock.setTimer(limitMs, resolve);
      this.#onConnectionClosed = () => {
        if (this.#connections.size > 0) return;
        cancel();
        resolve();
      };
    });
  }

  #assertOpen(): void {
    if (this.#closing) throw new AppError('shutting-down', 'The server was closed.');
  }

  #accept(duplex: Duplex): void {
    if (this.#closing || this.#pending.size >= this.#limits.maxHandshakes) {
      const error = this.#closing
        ? new AppError('shutting-down', 'The service is shutting down.')
        : new AppError('rate-limited', 'Too many peers connect at the same time.');
      duplex.send(JSON.stringify({ type: 'reject', error: error.toBody() }));
      duplex.close('rejected');
      return;
    }
    this.#pending.add(duplex);
    // The handshake belongs to no request; what it logs has an id of its own.
    this.#handshakes.start('rpc handshake', () => this.#handshake(duplex), newRequestId());
  }

  async #handshake(duplex: Duplex): Promise<void> {
    const { identity, directory, allow, logger, router } = this.#options;
    const clock = this.#clock;
    const limits = { maxFrameBytes: this.#limits.maxFrameBytes, maxConcurrent: this.#limits.maxConcurrent };
    try {
      await acceptPeer(duplex, { identity, directory, allow, limits, clock }, (peer) => {
        if (this.#closing) throw new AppError('shutting-down', 'The service is shutting down.');
        const connection: ServerConnection = new ServerConnection({
          duplex,
          peer,
          router,
          limits,
          logger,
          clock,
          onClosed: () => {
            this.#connections.delete(connection);
            this.#onConnectionClosed?.();
            runWithRequest({ requestId: newRequestId() }, () =>
              logger.debug('rpc peer disconnected', { peer_kind: peer.kind, peer_id: peer.id }),
            );
          },
        });
        duplex.handler = connection;
        this.#connections.add(connection);
        logger.debug('rpc peer connected', { peer_kind: peer.kind, peer_id: peer.id, remote: duplex.remote });
      });
    } catch (error) {
      const expected = hasCode(error, 'peer-rejected', 'connection-lost', 'shutting-down');
      const { remote } = duplex;
      if (expected) logger.warn('rpc peer rejected', { remote, ...failureFields(error) });
      else logger.error('rpc handshake failed', { remote, error });
    } finally {
      this.#pending.delete(duplex);
    }
  }
}

function listen(http: HttpServer, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => {
      if (error.code === 'EADDRINUSE')
        reject(
          new AppError('port-in-use', `Port ${port} on ${host} is in use.`, { data: { host, port }, cause: error }),
        );
      else reject(new AppError('config-invalid', `Cannot listen on ${host}:${port}.`, { cause: error }));
    };
    http.once('error', onError);
    http.listen(port, host, () => {
      http.off('error', onError);
      resolve();
    });
  });
}
