import {
  createServer,
  type IncomingMessage,
  type Server as NodeServer,
  type RequestListener,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { AppError, newRequestId } from '@backend.ai/core';
import { observations } from '@backend.ai/telemetry';
import Fastify, { type FastifyInstance } from 'fastify';
import { sendPreflight } from './cors.ts';
import type { HttpDependencies } from './dependencies.ts';
import { onClientError, refuseConnection } from './malformed.ts';
import { pathOf, routeNotFound } from './parameters.ts';
import { asAppError } from './problems.ts';
import { RequestEdge } from './request-edge.ts';
import { admitRequests, answerError } from './request-hooks.ts';
import { registerAuthRoutes } from './routes/auth.ts';
import { registerConfigRoutes } from './routes/config.ts';
import { registerExecutionRoutes } from './routes/execution.ts';
import { registerFileRoutes } from './routes/files.ts';
import { registerResourceRoutes } from './routes/resources.ts';
import { registerRootRoutes } from './routes/root.ts';
import { registerSessionRoutes } from './routes/sessions.ts';
import { registerStreamRoutes } from './routes/streams.ts';
import { registerTemplateRoutes } from './routes/templates.ts';
import { registerUsageRoutes } from './routes/usage.ts';
import { registerRpc } from './rpc.ts';
import { onUpgrade } from './web-sockets.ts';

/**
 * The manager's public edge: official REST API, our streaming forms and tRPC on one port.
 *
 * A request passes, in this order: Node's parser (what it refuses is answered in malformed.ts) → `RequestEdge` (id,
 * standing headers, access log, rewriting of method and prefix) → Fastify's routing → admission (request-hooks.ts:
 * version, signature, rate) → body → route. Nothing reads a body before its sender is known.
 */
export interface HttpServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Path under which a reverse proxy offers this server: `/api`. Works whether or not the proxy takes it away. */
  readonly pathPrefix?: string;
  /** Proxies whose `X-Forwarded-*` is believed, as Fastify has it: true, or addresses and networks. */
  readonly trustProxy?: boolean | string | string[];
  /** Of the manager, for the handshake. */
  readonly version: string;
  readonly limits?: Partial<HttpLimits>;
}

export interface HttpLimits {
  /** A request's head must be here after this long. */
  readonly headersMs: number;
  /** A body may take this long, plus its length at 32 KiB/s. Streamed uploads have `stallMs` instead. */
  readonly bodyMs: number;
  /** A streamed upload may be silent for this long. */
  readonly stallMs: number;
  /** The rest of a refused body is read and dropped for this long, so that the answer arrives. */
  readonly drainMs: number;
  /** Bytes of a JSON body. Code snippets may have 4 MiB. */
  readonly jsonBytes: number;
}

const defaultLimits: HttpLimits = {
  headersMs: 15_000,
  bodyMs: 30_000,
  stallMs: 60_000,
  drainMs: 5_000,
  jsonBytes: 8 * 1024 * 1024,
};
const maxHeaderBytes = 32 * 1024;

export interface HttpServer {
  /** @throws AppError `port-in-use` */
  listen(): Promise<{ url: string }>;
  /** Stops accepting, ends waits and watches, lets other requests finish for `graceMs`, then cuts them. */
  close(graceMs: number): Promise<void>;
}

/** What routes are registered with. */
export interface RouteContext extends HttpDependencies {
  readonly version: string;
  readonly limits: HttpLimits;
}

export function createHttpServer(dependencies: HttpDependencies, options: HttpServerOptions): HttpServer {
  const prefix = normalizePrefix(options.pathPrefix);
  const context: RouteContext = {
    ...dependencies,
    version: options.version,
    limits: { ...defaultLimits, ...options.limits },
  };
  const state = new ServerState(context, prefix);
  const app = Fastify({
    logger: false,
    trustProxy: options.trustProxy ?? false,
    bodyLimit: context.limits.jsonBytes,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 1024 },
    return503OnClosing: false,
    serverFactory: (handler) => state.createServer(handler),
    frameworkErrors: (error, request, reply) => answerError(context, asAppError(error), request, reply),
  });
  for (const method of ['GET', 'HEAD', 'DELETE']) app.addHttpMethod(method, { hasBody: true, overrideExisting: true });
  readAnyBody(app);
  admitRequests(app, context, {
    pathPrefix: prefix,
    trustProxy: Boolean(options.trustProxy),
    isClosing: () => state.closing,
  });
  answerUnknownUrls(app, context);
  registerRootRoutes(app, context);
  registerAuthRoutes(app, context);
  registerSessionRoutes(app, context);
  registerTemplateRoutes(app, context);
  registerConfigRoutes(app, context);
  registerExecutionRoutes(app, context);
  registerFileRoutes(app, context);
  registerStreamRoutes(app, context);
  registerResourceRoutes(app, context);
  registerUsageRoutes(app, context);
  registerRpc(app, context);

  return {
    async listen() {
      await app.ready();
      await state.listen(options.host, options.port);
      const { port } = state.server.address() as AddressInfo;
      const host = options.host.includes(':') ? `[${options.host}]` : options.host;
      return { url: `http://${host}:${port}${prefix ?? ''}` };
    },
    async close(graceMs) {
      await state.close(graceMs);
      await app.close();
    },
  };
}

/** Bodies reach routes as bytes: whether they are JSON is not told by the content type. */
function readAnyBody(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
}

/** Unknown URLs are 404, known ones with another method 405. */
function answerUnknownUrls(app: FastifyInstance, context: RouteContext): void {
  const known: { pattern: RegExp; method: string }[] = [];
  app.addHook('onRoute', (route) => {
    // The reserved word `_` names no session.
    const source = route.url.replaceAll(/:\w+/g, '(?!_/|_$)[^/]+').replaceAll('*', '.*');
    for (const method of [route.method].flat()) known.push({ pattern: new RegExp(`^${source}$`), method });
  });
  app.setNotFoundHandler((request, reply) => {
    if (request.method === 'OPTIONS') return sendPreflight(request, reply);
    const path = pathOf(request.url);
    const allowed = known.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method);
    if (allowed.length === 0) return answerError(context, routeNotFound(request), request, reply);
    reply.header('allow', [...new Set(allowed)].join(', '));
    return answerError(context, new AppError('method-not-allowed', 'This URL has no such method.'), request, reply);
  });
}

function normalizePrefix(text: string | undefined): string | undefined {
  const trimmed = (text ?? '').replace(/\/+$/, '');
  return trimmed === '' ? undefined : trimmed.startsWith('/') ? trimmed : `/${trimmed}`;
}

/** The node server, what is in flight on it, and its end. */
class ServerState {
  server!: NodeServer;
  closing = false;
  readonly #context: RouteContext;
  readonly #prefix: string | undefined;
  readonly #inFlight = new Set<RequestEdge>();

  constructor(context: RouteContext, prefix: string | undefined) {
    this.#context = context;
    this.#prefix = prefix;
  }

  createServer(handler: RequestListener): NodeServer {
    const accept = (request: IncomingMessage, response: ServerResponse, expectsContinue = false): void => {
      const edge = this.#enter(request, response);
      edge.expectsContinue = expectsContinue;
      edge.run(() => handler(request, response));
    };
    const server = createServer(
      {
        maxHeaderSize: maxHeaderBytes,
        headersTimeout: this.#context.limits.headersMs,
        // Bodies have their own limit: one for all would cut streamed uploads.
        requestTimeout: 0,
        connectionsCheckingInterval: Math.min(5_000, this.#context.limits.headersMs),
        keepAliveTimeout: 72_000,
        noDelay: true,
      },
      (request, response) => accept(request, response),
    );
    // No limit on silence: a caller may wait for a session without limit, a watcher for its next change.
    server.timeout = 0;
    server.on('checkContinue', (request, response) => accept(request, response, true));
    server.on('checkExpectation', (request, response) => accept(request, response));
    server.on('upgrade', (request, socket, head) => onUpgrade(accept, request, socket, head));
    server.on('clientError', (error, socket) => onClientError(this.#context.logger, error, socket));
    server.on('connect', (_request, socket: Duplex) => {
      const error = new AppError('method-not-allowed', 'This server is no proxy.');
      refuseConnection(socket, 405, error, newRequestId());
    });
    this.server = server;
    return server;
  }

  #enter(request: IncomingMessage, response: ServerResponse): RequestEdge {
    const edge = new RequestEdge(request, response, this.#context);
    this.#inFlight.add(edge);
    this.#limitBody(edge);
    response.once('finish', () => {
      // Closing at once would lose the answer on its way.
      if (request.complete) return;
      edge.limitBody(this.#context.clock.setTimer(this.#context.limits.drainMs, () => request.socket.destroy()));
      request.resume();
    });
    response.once('close', () => {
      this.#inFlight.delete(edge);
      if (request.complete) edge.limitBody(undefined);
      this.#logAccess(edge);
    });
    const override = request.headers['x-method-override'];
    if (typeof override === 'string' && /^(?:GET|POST|PUT|PATCH|DELETE)$/i.test(override))
      request.method = override.toUpperCase();
    request.url = this.#withoutPrefix(edge.target);
    return edge;
  }

  #withoutPrefix(target: string): string {
    const prefix = this.#prefix;
    // `GET http://host/path` as a proxy sends it.
    const path = /^https?:\/\/[^/?#]*/i.exec(target)?.[0];
    const url = path === undefined ? target : target.slice(path.length) || '/';
    if (prefix && (url === prefix || url.startsWith(`${prefix}/`) || url.startsWith(`${prefix}?`))) {
      const rest = url.slice(prefix.length);
      return rest.startsWith('/') ? rest : `/${rest}`;
    }
    return url;
  }

  #limitBody(edge: RequestEdge): void {
    const { request } = edge;
    const length = Number(request.headers['content-length'] ?? 0);
    if (length === 0 && request.headers['transfer-encoding'] === undefined) return;
    const ms = this.#context.limits.bodyMs + Math.min(length, this.#context.limits.jsonBytes) / 32;
    edge.limitBody(
      this.#context.clock.setTimer(ms, () => {
        if (request.complete) return;
        const error = new AppError('invalid-input', 'The request did not arrive in time.');
        if (edge.response.headersSent) request.socket.destroy();
        else refuseConnection(request.socket, 408, error, edge.requestId);
      }),
    );
  }

  /** One record for each request, when its response is over. */
  #logAccess(edge: RequestEdge): void {
    const { request, response } = edge;
    const ms = this.#context.clock.monotonic() - edge.startedAt;
    const status = edge.isUpgraded ? 101 : response.headersSent ? response.statusCode : undefined;
    observations.httpRequest.tell({ method: request.method ?? '', route: edge.route, status, ms });
    edge.run(() =>
      this.#context.logger.info('request handled', {
        method: request.method,
        path: pathOf(request.url ?? '/'),
        route: edge.route ?? null,
        status: status ?? null,
        outcome: response.writableFinished || edge.isUpgraded ? 'finished' : 'aborted',
        duration_ms: Math.round(ms * 1000) / 1000,
        remote: edge.remote ?? request.socket.remoteAddress ?? null,
      }),
    );
  }

  listen(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const onError = (error: NodeJS.ErrnoException): void => {
        reject(
          error.code === 'EADDRINUSE'
            ? new AppError('port-in-use', `Port ${port} of ${host} is in use.`, { data: { host, port }, cause: error })
            : new AppError('config-invalid', `The server cannot listen on ${host}:${port}.`, { cause: error }),
        );
      };
      this.server.once('error', onError);
      this.server.listen({ host, port }, () => {
        this.server.off('error', onError);
        resolve();
      });
    });
  }

  async close(graceMs: number): Promise<void> {
    if (this.closing) return;
    this.closing = true;
    const reason = new AppError('shutting-down', 'The server is shutting down.');
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeIdleConnections();
    for (const edge of this.#inFlight) if (edge.endsOnShutdown) edge.abort(reason);
    const cancel = this.#context.clock.setTimer(graceMs, () => {
      for (const edge of this.#inFlight) edge.abort(reason);
      this.server.closeAllConnections();
    });
    await closed;
    cancel();
  }
}
