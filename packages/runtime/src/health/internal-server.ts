import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AppError, newRequestId, parseRequestId, type RequestId } from '@backend.ai/core';
import { type Logger, runWithRequest } from '@backend.ai/telemetry';
import type { Metrics } from '../metrics/metrics.ts';
import type { DependencyHealth } from './dependencies.ts';
import type { DependencyChecks } from './dependency-checks.ts';

/** Whether a service takes work: `ready`, or why not. */
export type ServiceState = 'starting' | 'ready' | 'stopping';

export interface InternalServerOptions {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
  readonly component: string;
  readonly version: string;
  readonly state: () => ServiceState;
  readonly dependencies: DependencyChecks;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** What `/health` answers. */
export interface ServiceHealth {
  readonly component: string;
  readonly version: string;
  readonly state: ServiceState;
  readonly ready: boolean;
  readonly dependencies: readonly DependencyHealth[];
}

/**
 * The internal port of a service, without authentication and on loopback unless configured otherwise:
 *
 * - `/health/live`: 200 while the process answers at all. Who restarts services asks this, and nothing else.
 * - `/health/ready`: 200 when it takes work and all its dependencies work, else 503. Who sends requests asks this.
 * - `/health`: the same as ready, for people.
 * - `/metrics`: for Prometheus.
 */
export class InternalServer {
  readonly #options: InternalServerOptions;
  #server: Server | undefined;

  constructor(options: InternalServerOptions) {
    this.#options = options;
  }

  /** @throws AppError `port-in-use`, `config-invalid` */
  async start(): Promise<{ readonly url: string }> {
    const { host, port } = this.#options;
    const server = createServer({ requestTimeout: 5_000, keepAliveTimeout: 5_000, maxHeaderSize: 16_384 });
    server.on('request', (request, response) => this.#serve(request, response));
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause: NodeJS.ErrnoException) => {
        const data = { host, port };
        reject(
          cause.code === 'EADDRINUSE'
            ? new AppError('port-in-use', `Port ${port} of ${host} is in use.`, { data, cause })
            : new AppError('config-invalid', `The internal port cannot be opened on ${host}:${port}.`, { data, cause }),
        );
      });
      server.listen({ host, port }, resolve);
    });
    this.#server = server;
    const { address, family, port: bound } = server.address() as AddressInfo;
    return { url: `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}` };
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const requestId = requestIdOf(request);
    response.setHeader('X-Backend-Request-ID', requestId);
    response.setHeader('Cache-Control', 'no-store');
    request.resume();
    runWithRequest({ requestId, actor: 'internal' }, () => {
      this.#answer(request, response, requestId).catch((error: unknown) => {
        this.#options.logger.error('internal request failed', { path: request.url, error });
        sendError(response, 500, AppError.from(error), requestId);
      });
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse, requestId: RequestId): Promise<void> {
    const path = (request.url ?? '/').replace(/\?.*$/s, '').replace(/(?<=.)\/$/, '');
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD');
      return sendError(response, 405, new AppError('method-not-allowed', 'This port only answers GET.'), requestId);
    }
    const { component, version } = this.#options;
    switch (path) {
      case '/health/live':
        return sendJson(response, 200, { component, version, live: true });
      case '/health':
      case '/health/ready': {
        const health = await this.health();
        return sendJson(response, health.ready ? 200 : 503, health);
      }
      case '/metrics': {
        const { contentType, text } = await this.#options.metrics.render();
        response.writeHead(200, { 'Content-Type': contentType });
        response.end(text);
        return;
      }
      default:
        return sendError(
          response,
          404,
          new AppError('route-not-found', 'There are /health, /health/live, /health/ready and /metrics here.'),
          requestId,
        );
    }
  }

  async health(): Promise<ServiceHealth> {
    const { component, version, state } = this.#options;
    const dependencies = await this.#options.dependencies.now();
    const present = state();
    const ready = present === 'ready' && dependencies.every(({ healthy }) => healthy);
    return { component, version, state: present, ready, dependencies };
  }
}

function requestIdOf({ headers }: IncomingMessage): RequestId {
  const names = ['x-request-id', 'x-backend-request-id', 'x-backendai-requestid'];
  return names.map((name) => parseRequestId(headers[name])).find((id) => id !== undefined) ?? newRequestId();
}

function sendJson(response: ServerResponse, status: number, document: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(`${JSON.stringify(document)}\n`);
}

function sendError(response: ServerResponse, status: number, error: AppError, requestId: RequestId): void {
  if (response.headersSent) response.destroy();
  else sendJson(response, status, { error: error.toBody(requestId) });
}
